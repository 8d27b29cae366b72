//! Companies made of bytes. One byte is one choice, zeros are the plainest choices.

use std::ops::RangeInclusive;

use super::{Business, Company, Member, Order};
use crate::face_subject::Form;
use crate::history::{Bytes, HEAD, Runs, Shape, control, ms, request, timer};
use crate::scenario::{
    Command, Do, MissedSpec, Mode, OnErrorSpec, Returns, RunPlan, Scenario, TargetSpec, TimerSpec,
};
use crate::span::Span;

/// How many timers a company has.
pub const MEMBERS: usize = 4;
/// How many bytes describe something that happens.
pub const BUSINESS: usize = 5;

/// The choices that stand for a stall.
const STALLS: RangeInclusive<u8> = 41..=42;

/// How many of them are there from the beginning.
const FOUNDERS: usize = 2;

/// The company that these bytes stand for: one byte and [`HEAD`] more for each member, and [`BUSINESS`] for all that
/// happens. In a `light` one timers are stored in a few bytes where they can be, and nothing asks for more.
#[must_use]
pub fn company(members: &[[u8; HEAD + 1]], business: &[[u8; BUSINESS]], light: bool) -> Company {
    let members = members.iter().map(|bytes| member(bytes, light)).collect();
    let mut writer = Writer { members, light, now: Span::ZERO, hired: 0, stalled: false, orders: Vec::new() };
    (0..FOUNDERS).for_each(|_| writer.hire());
    business.iter().for_each(|bytes| writer.business(&mut Bytes(bytes)));
    Company { watch: writer.now.plus(ms(121)), members: writer.members, orders: writer.orders }
}

fn member(bytes: &[u8; HEAD + 1], light: bool) -> Member {
    let (kind, bytes) = (bytes[0], &bytes[1..]);
    let (form, runs) = match (light, kind / 8 % 3) {
        (true, 0) => (Form::LeanUnit, Runs::Plain),
        (true, 1) => (Form::Lean, Runs::Plain),
        (true, _) => (Form::LeanMeasured, Runs::Plain),
        (false, 1) => (Form::Sync, Runs::Instant),
        (false, _) => (Form::Slow, Runs::Slow),
    };
    let scenario = timer(bytes, Shape { runs, stretch: 1, grain: Span::MILLISECOND });
    // A tick that jitter has drawn in between has a turn later than it is due, and commands may come first.
    let spec = TimerSpec { jitter: None, ..scenario.timer };
    let once = kind % 4 == 3;
    let tied = kind / 4 % 2 == 1;
    if !once {
        return Member { scenario: Scenario { timer: spec, ..scenario }, form, once, tied };
    }
    let form = if form == Form::Slow { Form::Sync } else { form };
    let spec = TimerSpec { initial_delay: spec.period.min(ms(100)), ..call_once() };
    let scenario = Scenario {
        timer: spec,
        autostart: true,
        runs: [(1, RunPlan { returns: scenario.plan(1).returns, ..RunPlan::default() })].into(),
        // It can only be made once, whatever becomes of its timer.
        other_runs: RunPlan { returns: Returns::Error, ..RunPlan::default() },
        ..scenario
    };
    Member { scenario, form, once, tied }
}

/// The schedule of a call that is made once.
fn call_once() -> TimerSpec {
    TimerSpec {
        mode: Mode::FixedDelay,
        period: ms(1000),
        initial_delay: Span::ZERO,
        jitter: None,
        missed: MissedSpec::Skip,
        keep_phase: false,
        max_lateness: None,
        max_runs: Some(1),
        until: None,
        run_for: None,
        stop_when: None,
        run_timeout: None,
        on_error: OnErrorSpec::Stop,
        target: TargetSpec::Call,
    }
}

struct Writer {
    members: Vec<Member>,
    light: bool,
    now: Span,
    hired: usize,
    stalled: bool,
    orders: Vec<Order>,
}

impl Writer {
    fn business(&mut self, from: &mut Bytes<'_>) {
        let gap = from.pick([ms(2), ms(0), ms(4), ms(6), ms(8), ms(14), ms(30), ms(50)]);
        let choice = from.below(48);
        // A lean timer that only waits ends with the command that stops it, and others with their next turn. And
        // whoever is answered has to have a turn before a stall.
        let least = if self.stalled || self.light || STALLS.contains(&choice) { ms(2) } else { Span::ZERO };
        self.now = self.now.plus(gap.max(least));
        self.stalled = false;
        let who = usize::from(from.below(u8::MAX)) % self.hired;
        let argument = from.below(u8::MAX);
        let patience = from.pick([None, None, Some(ms(1)), Some(ms(7)), Some(ms(31))]);
        let once = self.members[who].once;
        let what = match choice {
            0..=7 => self.tell(
                who,
                lasting(control([0, 3, 5, 8, 9, 10, 12, 6][usize::from(choice)], argument, &mut false)),
                None,
            ),
            8..=11 if !once => self.tell(who, request(14 + argument % 9, argument / 9), patience),
            12..=14 if !once => self.tell(who, Do::Start, None),
            15 => self.tell(who, Do::Detach, None),
            16 => self.tell(who, Do::DropHandle, None),
            17..=21 => Business::Add(who),
            22 => Business::Remove(who),
            23..=25 => Business::StartAll,
            26 => Business::AskAll(Do::Cancel, patience),
            27 => Business::AskAll(
                Do::Shutdown([ms(0), ms(3), ms(17), ms(1001)][usize::from(argument % 4)]),
                patience,
            ),
            28..=31 => {
                Business::AskAll(request([14, 18, 20, 22][usize::from(argument % 4)], argument / 4), patience)
            }
            8..=9 | 32 if once => Business::CallOff(who),
            10..=11 | 33 if once => Business::FireNow(who, self.name()),
            12..=14 | 34 if once => Business::AwaitCall(who, self.name()),
            35..=37 => Business::Tie(who),
            38 => match argument % 4 {
                0 => Business::CloseScope([ms(0), ms(3), ms(17)][usize::from(argument / 4 % 3)]),
                1 => Business::CancelScope,
                _ => Business::DropScope,
            },
            39 if argument % 4 == 0 => Business::CloseEngine,
            40 => Business::Disband,
            _ if STALLS.contains(&choice) => {
                self.stalled = true;
                Business::Stall(ms(4).times(1 + u64::from(argument % 24)))
            }
            43..=47 if self.hired < self.members.len() => return self.hire(),
            _ => self.tell(who, Do::Look, None),
        };
        let at = self.now;
        if let Business::Stall(span) = what {
            self.now = at.plus(span);
        }
        self.orders.push(Order { at, what });
    }

    fn hire(&mut self) {
        self.orders.push(Order { at: self.now, what: Business::Hire(self.hired) });
        self.hired += 1;
    }

    /// The name of the answer to the next order.
    fn name(&self) -> String {
        format!("answer-{}", self.orders.len())
    }

    fn tell(&self, who: usize, action: Do, patience: Option<Span>) -> Business {
        let name = action.has_answer().then(|| self.name());
        // Whoever waits for the end with some patience has a handle meanwhile.
        let timeout = patience.filter(|_| action.can_wait() && action != Do::Wait);
        Business::Tell(who, Command { at: self.now, action, name, timeout })
    }
}

/// A timer that has no period and whose runs take no time would have no end.
fn lasting(action: Do) -> Do {
    match action {
        Do::SetPeriod(Span::ZERO) => Do::SetPeriod(ms(24)),
        Do::Rearm(Span::ZERO) => Do::Rearm(ms(24)),
        action => action,
    }
}
