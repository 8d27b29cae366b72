//! Timers on tokio and on threads, in virtual time. Every test names the clause that it proves.

mod attribute;
mod cancel_safety;
mod delivery;
mod engines;
mod failures;
mod groups;
mod guarantees;
mod lifecycle;
mod logs;
mod resources;
mod schedule;
mod scope;
mod shapes;
mod support;
mod test_clocks;
mod thread_endings;
mod thread_failures;
mod thread_hosts;
mod thread_lean;
mod thread_races;
mod thread_restarts;
mod thread_stops;
mod thread_support;
mod thread_time;
mod thread_workers;
mod threads;
