//! Writes random histories as a scenario file, for players in other languages:
//! `cargo run -p everbeat-conformance --example histories -- COUNT SEED > FILE`.
//!
//! Left out is what a timer in an event loop of Python has not got: `until`, handles that are dropped, feeds that hold
//! nothing, an idle wait that is refused before the start, and stop conditions that come true later: a loop notices
//! those a turn after, and a tick at the same time may come first.

use everbeat_conformance::{COMMAND, Do, HEAD, Scenario, Shape, Span, history, to_file};

fn main() {
    let mut numbers = std::env::args().skip(1).map(|text| text.parse::<u64>().expect("a number"));
    let (count, seed) = (numbers.next().unwrap_or(100), numbers.next().unwrap_or(0));
    let mut state = seed;
    let mut stories = Vec::new();
    while (stories.len() as u64) < count {
        let bytes = random_bytes(&mut state);
        let shape = Shape { instant: stories.len() % 2 == 1, stretch: 1 };
        let Ok(mut story) = history(&bytes, shape) else { continue };
        if is_for_loops(&story) {
            story.name = format!("history-{seed}-{}", stories.len());
            stories.push(story);
        }
    }
    println!("{}", to_file("Random histories, and what the model says of them.", stories));
}

fn random_bytes(state: &mut u64) -> Vec<u8> {
    let length = HEAD + COMMAND * usize::try_from(draw(state) % 16).unwrap_or(0);
    (0..length).map(|_| draw(state).to_le_bytes()[3]).collect()
}

/// `SplitMix64`.
fn draw(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

fn is_for_loops(story: &Scenario) -> bool {
    let actions = story.commands.iter().map(|command| &command.action);
    let lacking = |action: &Do| match action {
        Do::Detach | Do::DropHandle => true,
        Do::Subscribe(spec) => spec.bounded == Some(0),
        Do::Wait => !story.autostart,
        _ => false,
    };
    let condition = story.timer.stop_when.unwrap_or_default();
    story.timer.until.is_none() && condition == Span::ZERO && !actions.clone().any(lacking)
}
