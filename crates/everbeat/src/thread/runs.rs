//! The turns that a thread gives to timers, one after the other, outside of the engine's lock.
//!
//! How the runs of lean timers begin and end is in `hand.rs`.

use std::ptr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;

use everbeat_core::{Instant, Key};

use super::engine::Core;
use super::exit;
use super::hand::{Begun, Delivered, Hand};
use super::line::Taking;
use super::placed::Placed;
use super::roster::{Job, Over, Roster, Task, Woken};
use crate::beat::{Progress, spans_are_wanted};
use crate::current::{Current, Scope};
use crate::guard::guarded;
use crate::shared::{Made, Plan};
use crate::target::{Call, Step};

/// Timers that have their turns one after the other, taken from the roster and given back together, in
/// the same order.
pub(super) struct Batch {
    most: usize,
    jobs: Vec<Job>,
    /// How often the engine had been closed when they were taken.
    closings: u32,
    hand: Option<Hand>,
    /// The turns among them that were given, in order.
    turns: Vec<Progress>,
    /// Those that have no other turn.
    over: Vec<Over>,
}

impl Batch {
    pub(super) fn of(most: usize, core: &Core) -> Self {
        let hand = core.lock().hands.lend();
        Self { most, hand, jobs: Vec::new(), closings: 0, turns: Vec::new(), over: Vec::new() }
    }

    /// It is needed no more.
    pub(super) fn end(self, core: &Core) {
        self.lay_down(&mut core.lock());
    }

    /// As [`Batch::end`], under the lock.
    pub(super) fn lay_down(self, roster: &mut Roster) {
        if let Some(hand) = self.hand {
            roster.hands.take_back(hand.number);
        }
    }

    /// Gives back what is done, and takes what is due. Returns whether there is anything to do.
    pub(super) fn exchange(&mut self, roster: &mut Roster, due_by: Instant) -> bool {
        self.give_back(roster);
        let most = self.most;
        self.take(
            roster,
            |roster, taking| {
                while taking.jobs.len() < most && roster.take_due_job(due_by, taking) {}
            },
        );
        self.has_work()
    }

    /// Takes what `take` adds.
    pub(super) fn take<R>(
        &mut self,
        roster: &mut Roster,
        take: impl FnOnce(&mut Roster, &mut Taking<'_>) -> R,
    ) -> R {
        self.closings = roster.closings;
        let hand = self.hand.as_ref().map(|hand| (hand.number, hand.lock()));
        take(roster, &mut Taking { jobs: &mut self.jobs, hand, last_plan: ptr::null() })
    }

    /// Gives back what is done. What is over waits to be let go.
    pub(super) fn give_back(&mut self, roster: &mut Roster) {
        let mut slots = self.hand.as_ref().map(Hand::lock);
        let mut lean = slots.iter_mut().flat_map(|slots| slots.iter_mut());
        let mut turns = self.turns.drain(..);
        for job in self.jobs.drain(..) {
            match job {
                Job::Lean { key, .. } => {
                    if let Some(slot) = lean.next() {
                        roster.give_back_lean(key, slot);
                    }
                }
                Job::Turn { key, task, .. } => {
                    let over = turns.next().and_then(|progress| roster.give_back(key, task, &progress));
                    self.over.extend(over);
                }
                Job::Ring(_) | Job::Done => {}
            }
        }
        if let Some(slots) = &mut slots {
            slots.clear(); // nothing is left in them
        }
    }

    pub(super) fn has_work(&self) -> bool {
        !self.jobs.is_empty() || !self.over.is_empty()
    }

    /// Brings the memory of all timers in; see [`Hand::fetch`].
    fn fetch(&self) {
        let look = |sum: usize, job: &Job| match job {
            Job::Turn { task, .. } => sum.wrapping_add(task.handles()),
            _ => sum,
        };
        std::hint::black_box(self.jobs.iter().fold(0, look));
        std::hint::black_box(self.hand.as_ref().map(Hand::fetch));
    }
}

/// What goes from one run of a lean timer to the next.
#[derive(Default)]
struct Carrier {
    plan: Option<Arc<Plan>>,
    /// The timer, to be made the current one.
    me: Option<Current>,
    /// The run before, which has delivered and has not been put back.
    before: Option<(Key, Delivered)>,
}

impl Carrier {
    fn take_up(&mut self, key: Key, plan: Option<Arc<Plan>>) {
        if let Some(plan) = plan {
            self.me = Some(Current::Placed(Placed::new(plan.clone(), key)));
            self.plan = Some(plan);
        }
        if let Some(Current::Placed(place)) = &mut self.me {
            place.key = key;
        }
    }
}

impl Core {
    /// Lets go of what is over.
    pub(super) fn let_go_all(self: &Arc<Self>, batch: &mut Batch) {
        batch.over.drain(..).for_each(|over| self.let_go(over));
    }

    /// Gives all of a batch their turn.
    pub(super) fn take_turns(self: &Arc<Self>, batch: &mut Batch) {
        self.let_go_all(batch);
        batch.fetch();
        let Batch { jobs, hand, turns, closings, .. } = batch;
        let (mut now, mut carrier, mut slot) = (self.time.now(), Carrier::default(), 0);
        for job in jobs {
            if let (Job::Lean { key, plan }, Some(hand)) = (&mut *job, &*hand) {
                carrier.take_up(*key, plan.take());
                self.make_run(*key, hand, slot, &mut carrier, &mut now);
                slot += 1;
                continue;
            }
            self.put_back(hand.as_ref(), &mut carrier, &mut now);
            match job {
                // Its turn would begin after the engine was closed. Giving it back ends it.
                Job::Turn { .. } if self.closings.load(Ordering::SeqCst) != *closings => {
                    turns.push(Progress::Yield { restless: false });
                }
                Job::Turn { key, task, queued } => turns.push(self.turn_of(*key, task, *queued, &mut now)),
                job => {
                    self.ring(std::mem::replace(job, Job::Done));
                    now = self.time.now();
                }
            }
        }
        self.put_back(hand.as_ref(), &mut carrier, &mut now);
    }

    /// Makes the run in a slot of the hand, and moves `now` on to its end.
    fn make_run(
        self: &Arc<Self>,
        key: Key,
        hand: &Hand,
        slot: usize,
        carrier: &mut Carrier,
        now: &mut Instant,
    ) {
        if self.time.host().is_none() && exit::has_begun() {
            self.put_back(Some(hand), carrier, now); // for whoever stops that timer during the exit
            exit::stop_here_at_exit();
        }
        let declined = spans_are_wanted(); // a whole timer enters one for each run
        let Carrier { plan: Some(plan), me, before } = carrier else { return };
        let back = before.as_mut().map(|(_, run)| run);
        let mut begun = hand.begin(slot, &plan.schedule, *now, declined, back);
        self.finish_promoted(before, now);
        if matches!(begun, Begun::NotYet) {
            begun = hand.begin(slot, &plan.schedule, *now, declined, None);
        }
        let (tick, rested, mut call) = match begun {
            Begun::Run(tick, rested, call) => (tick, rested, call),
            Begun::Gone | Begun::NotYet => return,
            Begun::Declined => {
                self.turn_as_whole(key);
                *now = self.time.now().max(*now);
                return;
            }
        };
        let began = *now;
        let step = {
            let _scope = Scope::enter(me);
            guarded(|| call.call(tick))
        };
        let ended = self.time.now().max(began);
        *now = ended;
        let blocked = ended.saturating_since(began) >= plan.blocked_after && plan.home.shares_its_thread();
        let mut call = Some(call);
        if matches!(step, Ok(Poll::Ready(Step::Value(())))) && !blocked {
            let run = Delivered::new(slot, &mut call, (tick, rested), &plan.schedule, ended);
            *before = run.map(|run| (key, run));
        }
        if let Some(call) = call {
            self.finish_as_whole(key, call, Made { tick, step, ended, blocked });
            *now = self.time.now().max(ended);
        }
    }

    /// Puts the last run back.
    fn put_back(self: &Arc<Self>, hand: Option<&Hand>, carrier: &mut Carrier, now: &mut Instant) {
        if let (Some(hand), Some((_, run))) = (hand, &mut carrier.before) {
            hand.put_back(run);
            self.finish_promoted(&mut carrier.before, now);
        }
    }

    /// A run was to be put back. It was not if its timer has become a whole one; then `now` is moved on to
    /// the end of what that has to do.
    fn finish_promoted(self: &Arc<Self>, run: &mut Option<(Key, Delivered)>, now: &mut Instant) {
        let Some((key, Delivered { call: Some(_), .. })) = run else {
            *run = None;
            return;
        };
        let key = *key;
        let Some((_, Delivered { call: Some(call), tick, ended, .. })) = run.take() else { return };
        let step = Ok(Poll::Ready(Step::Value(())));
        self.finish_as_whole(key, call, Made { tick, step, ended, blocked: false });
        *now = self.time.now().max(*now);
    }

    /// The call of a lean timer comes back to a whole one, with what was made of its run.
    fn finish_as_whole(self: &Arc<Self>, key: Key, call: Call<()>, made: Made<()>) {
        let Some(timer) = self.promote(key) else { return };
        timer.take_back(&mut Some(Current::Whole(timer.clone())), call, made);
        self.give_turn(key, timer);
    }

    /// A lean timer has its turn as a whole one.
    fn turn_as_whole(self: &Arc<Self>, key: Key) {
        let woken = self.change(|roster| roster.promote(key).map(|timer| (timer, roster.wake(key))));
        if let Some((_, Woken::Waiting(task))) = woken {
            self.give_turn(key, task);
        }
    }

    fn give_turn(self: &Arc<Self>, key: Key, task: Task) {
        let closed = self.lock().was_closed_on(key);
        let progress =
            if closed { Progress::Yield { restless: false } } else { task.clone().full_turn(key, None) };
        self.give_back(key, task, &progress);
    }
}
