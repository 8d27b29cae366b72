//! The runs of lean timers, outside of the engine's lock; see `lean.rs`.

use std::sync::Arc;

use everbeat_core::{Instant, Key};

use super::engine::Core;
use super::exit::stop_here_at_exit;
use super::lean::LeanRun;
use super::placed::Placed;
use super::roster::Task;
use crate::beat::{Progress, spans_are_wanted};
use crate::current::{Current, Scope};
use crate::guard::guarded;
use crate::shared::{Made, Plan, finish_plainly};
use crate::target::Step;

/// What one run has in common with the one before.
#[derive(Default)]
pub(super) struct Carrier {
    plan: Option<Arc<Plan>>,
    /// The timer, to be made the current one.
    me: Option<Current>,
}

impl Carrier {
    fn take_up(&mut self, run: &mut LeanRun) {
        if let Some(plan) = run.plan.take() {
            self.me = Some(Current::Placed(Placed::new(plan.clone(), run.key)));
            self.plan = Some(plan);
        }
        if let Some(Current::Placed(place)) = &mut self.me {
            place.key = run.key;
        }
    }
}

impl Core {
    /// Makes a run, and moves `now` on to its end. Returns whether it has delivered; all others have been
    /// dealt with.
    pub(super) fn make_run(
        self: &Arc<Self>,
        run: &mut LeanRun,
        carrier: &mut Carrier,
        now: &mut Instant,
    ) -> bool {
        if self.time.host().is_none() {
            stop_here_at_exit();
        }
        carrier.take_up(run);
        let Carrier { plan: Some(plan), me } = carrier else { return false };
        let began = *now;
        let mut rested = run.rested();
        let tick = rested.begin(&plan.schedule, began).filter(|_| self.may_begin(run));
        let (Some(tick), Some(call)) = (tick, &mut run.call) else {
            self.finish_as_whole(run, None);
            *now = self.time.now().max(began);
            return false;
        };
        let step = {
            let _scope = Scope::enter(me);
            guarded(|| call.call(tick))
        };
        let ended = self.time.now().max(began);
        *now = ended;
        let blocked = ended.saturating_since(began) >= plan.blocked_after && plan.home.shares_its_thread();
        if matches!(step, Ok(Step::Value(()))) && !blocked {
            if let Some(after_nanos) = finish_plainly(&mut rested, &plan.schedule, ended) {
                if let Some(slot) = run.slot {
                    self.hand.deliver(slot, ended);
                }
                (run.began, run.ended) = (began, ended);
                (run.next_due, run.after_nanos) = (rested.due(), after_nanos);
                return true;
            }
        }
        self.finish_as_whole(run, Some(Made { tick, step, ended, blocked }));
        *now = self.time.now().max(ended);
        false
    }

    /// Whether a run is to begin here and now: nobody wants its span, and nobody has withdrawn it.
    fn may_begin(&self, run: &LeanRun) -> bool {
        !spans_are_wanted() && run.slot.is_none_or(|slot| self.hand.begin(slot))
    }

    /// A run has delivered, but its timer was promoted meanwhile.
    pub(super) fn finish_promoted(self: &Arc<Self>, run: &mut LeanRun) {
        let Some(timer) = self.promote(run.key) else { return };
        let tick = run.rested().begin(&timer.plan().schedule, run.began);
        let made = tick.map(|tick| Made { tick, step: Ok(Step::Value(())), ended: run.ended, blocked: false });
        self.finish_as_whole(run, made);
    }

    /// The call of a lean timer comes back to a whole one, with what was made of its run.
    fn finish_as_whole(self: &Arc<Self>, run: &mut LeanRun, made: Option<Made<()>>) {
        let (Some(timer), Some(call)) = (self.promote(run.key), run.call.take()) else { return };
        timer.take_back(call, made);
        self.give_turn(run.key, timer);
    }

    fn give_turn(self: &Arc<Self>, key: Key, task: Task) {
        let closed = self.read(|roster| roster.closed);
        let progress =
            if closed { Progress::Yield { restless: false } } else { task.clone().full_turn(key) };
        self.give_back(key, task, &progress);
    }
}
