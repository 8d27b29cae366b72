//! What handles ask of a timer. The invariants are those of the module above.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use everbeat_core::{Instant, StopReason};

use super::cell::{Apart, Cell, Lean, Phase};
use super::{Ending, Machine, Shared};
use crate::beat::BoxDrive;
use crate::clock::Clock;
use crate::error::Error;
use crate::feed::{Feeds, Line};
use crate::guard::drop_quietly;
use crate::waiters::{Place, Reply, Want};

impl<V: Send + Sync + 'static> Shared<V> {
    /// Gives the machine a command at the present time and wakes the driver.
    pub(crate) fn command<R>(&self, f: impl FnOnce(&mut Machine, Instant) -> R) -> R {
        let now = self.present();
        self.change(|state, left| {
            let result = f(&mut state.machine, now);
            state.follow_command(now, left);
            result
        })
    }

    /// The time, read outside of the lock. Where no clock can be read (before the first start, or on a
    /// thread that is being torn down) it is the origin, which the machine takes for the latest time it
    /// has seen.
    fn present(&self) -> Instant {
        self.clock().and_then(|clock| clock.now_anywhere()).unwrap_or(Instant::ORIGIN)
    }

    /// The clock since the last start; `None` before the first.
    pub(crate) fn clock(&self) -> Option<Clock> {
        match &*self.lock() {
            Cell::Apart(Apart::Full(state)) => state.clock.clone(),
            cell => cell.lean()?.clock(&self.plan),
        }
    }

    /// Stops it now.
    pub(crate) fn cancel(&self) -> Ending<V> {
        self.stop(StopReason::Cancelled, Machine::cancel)
    }

    /// Stops it gently.
    pub(crate) fn shut_down(&self, grace: Duration) -> Ending<V> {
        self.stop(StopReason::Drained, |machine, now| machine.drain(now, StopReason::Drained, grace))
    }

    /// Gives a command that ends it, and takes a place in the line for that end in the same moment: who
    /// starts it again meanwhile does not make this wait for another one. A lean timer that waits ends at
    /// once, for `reason`.
    fn stop(&self, reason: StopReason, command: impl FnOnce(&mut Machine, Instant)) -> Ending<V> {
        if let Some((reason, _)) = self.stop_lean(reason) {
            return Ending::Past(Reply::Ended(reason));
        }
        let now = self.present();
        self.change(|state, left| {
            let ending = state.queue_end();
            command(&mut state.machine, now);
            state.follow_command(now, left);
            ending
        })
    }

    /// From now on it cannot be started. It goes on if it runs; otherwise nothing needs its target, and its feeds
    /// have waited in vain for a start.
    pub(crate) fn retire(&self) {
        let spent = self.change(|state, left| {
            state.retired = true;
            if !state.machine.is_running() {
                state.end_feeds(left);
            }
            state.parked.take()
        });
        drop_quietly(spent);
    }

    /// Asks it to stop after the current run. Reads no clock and enters no runtime, so that it can be
    /// called wherever a handle can be dropped: on a thread that is being torn down, too.
    pub(crate) fn request_stop(&self, reason: StopReason) {
        if self.stop_lean(reason).is_some() || !self.is_running() {
            return;
        }
        self.change(|state, left| {
            let now = state.machine.now();
            state.machine.drain(now, reason, Duration::MAX);
            state.follow_command(now, left);
        });
    }

    pub(super) fn launch_with(&self, start: (Clock, Instant)) -> Result<(BoxDrive<V>, Clock), Error> {
        self.change(|state, left| {
            if state.retired {
                return Err(Error::ScopeClosed { name: self.name().clone() });
            }
            if self.plan.single_use && state.machine.was_started() && !state.machine.is_running() {
                return Err(Error::Restart { name: self.name().clone() });
            }
            // The driver comes back with the announcement of the end: without it that is still going on.
            let Some(driver) = state.parked.take() else {
                return Err(Error::AlreadyRunning { name: self.name().clone() });
            };
            match state.start_machine(&self.plan, start, left) {
                Ok(clock) => Ok((driver, clock)),
                Err(error) => {
                    state.parked = Some(driver);
                    Err(error)
                }
            }
        })
    }

    /// As [`Shared::launch`], for a driver that is not kept here.
    pub(crate) fn launch_driven(&self) -> Result<Clock, Error> {
        let start = self.clock_for_start()?;
        self.change(|state, left| {
            if state.retired {
                return Err(Error::ScopeClosed { name: self.name().clone() });
            }
            state.start_machine(&self.plan, start, left)
        })
    }

    /// The clock for a start, and the time on it. Reading a clock may run code of the user's, so it is
    /// done without the lock.
    pub(super) fn clock_for_start(&self) -> Result<(Clock, Instant), Error> {
        let mut cell = self.lock();
        let (before, seen) = match cell.lean() {
            Some(Lean { phase: Phase::Off(None), .. }) => (None, Instant::ORIGIN),
            _ => cell.read(&self.plan, |state| {
                // The machine of a lean timer knows of its slots, and not when the last run ended.
                let seen = state.machine.now().max(state.last_tick.unwrap_or(Instant::ORIGIN));
                (state.clock.clone(), seen)
            }),
        };
        drop(cell);
        let clock = self.plan.home.clock(before.as_ref(), seen);
        let clock = clock.ok_or_else(|| Error::NoRuntime { name: self.name().clone() })?;
        let now = clock.now();
        Ok((clock, now))
    }

    /// Asks for a run and takes a place in the line for its result.
    pub(crate) fn queue_trigger(&self) -> Result<Place, Error> {
        let now = self.present();
        self.change(|state, left| {
            let run = state.machine.trigger(now).map_err(|_| state.not_running(self.name()))?;
            left.woken.extend(state.driver.take());
            Ok(state.waiters.wait_for(Want::Run(run)))
        })
    }

    /// Takes a place in the line for the result of the next run to end.
    pub(crate) fn queue_join(&self) -> Result<Place, Error> {
        self.change(|state, _| {
            if !state.machine.is_running() {
                return Err(state.not_running(self.name()));
            }
            let in_flight = u64::from(state.machine.is_busy());
            let next = state.machine.runs().saturating_add(1) - in_flight;
            Ok(state.waiters.wait_for(Want::Run(next)))
        })
    }

    /// Takes a place in the line for a hit count; `None` if it is reached already.
    pub(crate) fn queue_hits(&self, target: impl FnOnce(u64) -> u64) -> Result<Option<Place>, Error> {
        self.change(|state, _| {
            let target = target(state.ledger.hits);
            if state.ledger.hits >= target {
                return Ok(None);
            }
            if state.machine.is_running() {
                return Ok(Some(state.waiters.wait_for(Want::Hits(target))));
            }
            Err(match state.machine.stop_reason() {
                Some(reason) if state.failure.is_none() => {
                    Error::Stopped { name: self.name().clone(), reason }
                }
                _ => state.not_running(self.name()),
            })
        })
    }

    /// Takes a place in the line for the end.
    pub(crate) fn queue_end(&self) -> Ending<V> {
        let phase = self.lock().lean().map(|lean| lean.phase);
        match phase {
            Some(Phase::Off(None)) => Ending::NeverStarted,
            Some(Phase::Off(Some(reason))) => Ending::Past(Reply::Ended(reason)),
            Some(Phase::On(_)) | None => self.change(|state, _| state.queue_end()),
        }
    }

    /// The reply for a place, or the waker of `cx` is remembered.
    pub(crate) fn poll_reply(&self, place: Place, cx: &Context<'_>) -> Poll<Reply<V>> {
        if let Some(polled) = self.lock().thaw(&self.plan).waiters.poll(place, cx.waker()) {
            return polled;
        }
        // Cloning a waker may run code of the user's, so it is done without the lock.
        let waker = cx.waker().clone();
        self.change(|state, left| {
            left.unneeded = state.waiters.set_waker(place, waker);
            state.waiters.poll(place, cx.waker()).unwrap_or(Poll::Pending)
        })
    }

    /// Gives a place back.
    pub(crate) fn forget(&self, place: Place) {
        let (waker, reply) = self.lock().thaw(&self.plan).waiters.forget(place);
        drop_quietly(waker);
        drop_quietly(reply);
    }

    pub(crate) fn subscribe(&self, line: &Arc<Line<V>>) {
        self.change(|state, left| {
            let machine = &state.machine;
            if (machine.was_started() || state.retired) && !machine.is_running() {
                left.woken.extend(line.end(state.failure.clone()));
            } else {
                Feeds::add(&mut state.feeds, line.clone());
            }
        });
    }

    pub(crate) fn unsubscribe(&self, line: &Arc<Line<V>>) {
        let removed = {
            let mut cell = self.lock();
            Feeds::remove(cell.feeds_mut(), line)
        };
        drop(removed);
    }
}
