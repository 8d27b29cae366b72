//! The module `everbeat.threading`: timers that need no event loop.
//!
//! Everything here is a thin cover over the thread face of the crate `everbeat`. `process.rs` has the rules for
//! forks and for the exit, `job.rs` what is called and who owns it, `wait.rs` the blocking calls.

mod asked;
mod callbacks;
mod clock;
mod current;
mod engine;
mod job;
mod oneshot;
mod options;
mod periodic;
mod process;
mod reports;
mod scope;
mod subscription;
mod targets;
mod testing;
mod ticks;
mod timer;

use std::sync::Arc;

use everbeat::Timer;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;

use self::job::Delivery;
pub(crate) use self::testing::TestEngine;
use crate::value::Raised;

/// What a run delivered, as an object.
fn object(py: Python<'_>, value: &Arc<Delivery>) -> Py<PyAny> {
    value.as_ref().as_ref().map_or_else(|| py.None(), |value| value.clone_ref(py))
}

/// Shows the collector what a timer that has ended delivered last, unless others hold it as well.
fn traverse_latest(timer: &Timer<Delivery>, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
    let latest = if timer.is_running() { None } else { timer.latest() };
    // One reference is that of the timer, the other is here.
    if let Some(Some(value)) =
        latest.as_ref().filter(|latest| Arc::strong_count(latest) == 2).map(|latest| &**latest)
    {
        visit.call(&**value)?;
    }
    Raised::traverse_last(timer, visit)
}

/// Adds everything under names that `everbeat.threading` gives to users without the underscore.
pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    module.add("_ThreadOneShot", py.get_type::<oneshot::OneShot>())?;
    module.add("_ThreadPeriodicTask", py.get_type::<periodic::PeriodicTask>())?;
    module.add("_ThreadTimer", py.get_type::<timer::Timer>())?;
    module.add("_ThreadSubscription", py.get_type::<subscription::Subscription>())?;
    module.add("_ThreadTicks", py.get_type::<ticks::Ticks>())?;
    module.add("_ThreadScope", py.get_type::<scope::Scope>())?;
    module.add("_ThreadClosed", py.get_type::<scope::Closed>())?;
    module.add("_ThreadEngine", py.get_type::<engine::Engine>())?;
    module.add("_ThreadEngineStats", py.get_type::<engine::EngineStats>())?;
    module.add_function(wrap_pyfunction!(engine::end_all_timers, module)?)?;
    module.add_function(wrap_pyfunction!(process::engine_threads, module)?)?;
    module.add_function(wrap_pyfunction!(current::current_timer, module)?)?;
    module.add_function(wrap_pyfunction!(current::current_tick, module)?)?;
    module.add("_ThreadAnswers", py.get_type::<asked::Answers>())?;
    module.add_function(wrap_pyfunction!(asked::ask_all, module)?)?;
    module.add("_thread_after", wrap_pyfunction!(oneshot::after, module)?)?;
    module.add("_thread_ticks", wrap_pyfunction!(ticks::ticks, module)?)
}
