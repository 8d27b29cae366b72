//! Writes random histories with what the model says of them, one a line, for players in other languages:
//! `cargo run -p everbeat-conformance --example histories -- SEED [COUNT] > FILE`. Without a count it goes on as long
//! as somebody reads.
//!
//! Left out is what timers in Python have not got: `until`, handles that are dropped, feeds that hold nothing, an idle
//! wait that is refused before the start, and stop conditions: a loop notices those before the start or a turn after,
//! and a tick at the same time may come first.

use std::io::Write;

use everbeat_conformance::{COMMAND, Do, HEAD, Runs, Scenario, Shape, Span, history};

fn main() {
    let mut numbers = std::env::args().skip(1).map(|text| text.parse::<u64>().expect("a number"));
    let (seed, count) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(u64::MAX));
    let mut out = std::io::stdout().lock();
    let mut state = seed;
    let mut written = 0;
    while written < count {
        let bytes = random_bytes(&mut state);
        let runs = if written % 2 == 1 { Runs::Instant } else { Runs::Slow };
        let shape = Shape { runs, stretch: 1, grain: Span::NANOSECOND };
        let Ok(mut story) = history(&bytes, shape) else { continue };
        if is_for_python(&story) {
            story.name = format!("history-{seed}-{written}");
            let line = serde_json::to_string(&story).expect("a scenario has a form as JSON");
            if writeln!(out, "{line}").is_err() {
                return; // nobody reads on
            }
            written += 1;
        }
    }
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

fn is_for_python(story: &Scenario) -> bool {
    let actions = story.commands.iter().map(|command| &command.action);
    let lacking = |action: &Do| match action {
        Do::Detach | Do::DropHandle => true,
        Do::Subscribe(spec) => spec.bounded == Some(0),
        Do::Wait => !story.autostart,
        _ => false,
    };
    story.timer.until.is_none() && story.timer.stop_when.is_none() && !actions.clone().any(lacking)
}
