//! Which timer's run or callback this thread is in.

use std::cell::RefCell;

use pyo3::prelude::*;

use super::job::SharedJob;
use crate::tick::Tick;

thread_local! {
    static CURRENT: RefCell<Option<SharedJob>> = const { RefCell::new(None) };
}

/// Has this job be the current one while its own code runs. What there is to know of it is looked up by who asks:
/// a run pays for nothing but the reference.
pub(super) fn inside<R>(job: &SharedJob, f: impl FnOnce() -> R) -> R {
    let _scope = Scope { outer: replace(Some(job.clone())) };
    f()
}

struct Scope {
    outer: Option<SharedJob>,
}

impl Drop for Scope {
    fn drop(&mut self) {
        drop(replace(self.outer.take()));
    }
}

/// Without effect on a thread that is tearing its locals down.
fn replace(job: Option<SharedJob>) -> Option<SharedJob> {
    CURRENT.try_with(|current| current.replace(job)).ok().flatten()
}

fn current() -> Option<SharedJob> {
    CURRENT.try_with(|current| current.borrow().clone()).ok().flatten()
}

/// The timer whose run or callback this thread is in.
#[pyfunction(name = "_current_timer_of_thread")]
pub(crate) fn current_timer(py: Python<'_>) -> Option<Py<PyAny>> {
    current()?.owner(py)
}

/// What its latest run was told.
#[pyfunction(name = "_current_tick_of_thread")]
pub(crate) fn current_tick(py: Python<'_>) -> PyResult<Option<Tick>> {
    current().map_or(Ok(None), |job| job.latest_tick(py))
}
