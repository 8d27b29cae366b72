//! `cancel_aws`: awaitables that stop a timer when one of them is done.
//!
//! The lock is held for a few instructions and never while Python code can run.

use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use pyo3::exceptions::PyTypeError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::timer::Place;

#[derive(Default)]
pub(crate) struct Conditions {
    given: Vec<Py<PyAny>>,
    watched: Mutex<Vec<Watched>>,
}

struct Watched {
    future: Py<PyAny>,
    callback: Py<Done>,
    /// The task was made here, for a coroutine.
    ours: bool,
}

impl Conditions {
    /// Any number of awaitables; `None` if there is none.
    pub(crate) fn parse(given: Option<&Bound<'_, PyAny>>) -> PyResult<Option<Self>> {
        let Some(given) = given else { return Ok(None) };
        let all = given.try_iter().and_then(Iterator::collect::<PyResult<Vec<_>>>);
        let all = all.map_err(|_| PyTypeError::new_err("cancel_aws must be a sequence of awaitables"))?;
        for one in &all {
            if !one.hasattr(intern!(one.py(), "__await__"))? {
                let kind = one.get_type();
                return Err(PyTypeError::new_err(format!(
                    "cancel_aws must hold awaitables, not {}",
                    kind.name()?
                )));
            }
        }
        let given: Vec<_> = all.into_iter().map(Bound::unbind).collect();
        Ok((!given.is_empty()).then(|| Self { given, watched: Mutex::default() }))
    }

    /// From the start on: the first of them that is done stops the timer.
    pub(crate) fn watch(
        &self,
        py: Python<'_>,
        event_loop: &Bound<'_, PyAny>,
        place: &Arc<Place>,
    ) -> PyResult<()> {
        let asyncio = py.import(intern!(py, "asyncio"))?;
        let options = PyDict::new(py);
        options.set_item("loop", event_loop)?;
        for given in &self.given {
            let future = asyncio.call_method("ensure_future", (given,), Some(&options))?;
            let ours = !future.is(given);
            let callback = Py::new(py, Done { place: Arc::downgrade(place) })?;
            if future.call_method0(intern!(py, "done"))?.is_truthy()? {
                callback.get().__call__(py, &future)?; // the loop would call back after the first tick
                continue;
            }
            future.call_method1(intern!(py, "add_done_callback"), (&callback,))?;
            self.lock().push(Watched { future: future.unbind(), callback, ours });
        }
        Ok(())
    }

    /// From the end on: those that are not done do not matter any more.
    pub(crate) fn forget(&self, py: Python<'_>) {
        let watched = mem::take(&mut *self.lock());
        for Watched { future, callback, ours } in watched {
            let removed = future.call_method1(py, intern!(py, "remove_done_callback"), (callback,));
            let cancelled =
                if ours { future.call_method0(py, intern!(py, "cancel")).map(drop) } else { Ok(()) };
            if let Err(error) = removed.map(drop).and(cancelled) {
                error.write_unraisable(py, None);
            }
        }
    }

    pub(crate) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.given.iter().try_for_each(|given| visit.call(given))
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Watched>> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Stops a timer after its current run.
#[pyclass(frozen, module = "everbeat._everbeat", name = "_Done")]
struct Done {
    place: Weak<Place>,
}

#[pymethods]
impl Done {
    fn __call__(&self, py: Python<'_>, future: &Bound<'_, PyAny>) -> PyResult<()> {
        let Some(place) = self.place.upgrade() else { return Ok(()) };
        place.timer().request_stop();
        if future.call_method0(intern!(py, "cancelled"))?.is_truthy()? {
            return Ok(());
        }
        let error = future.call_method0(intern!(py, "exception"))?;
        if !error.is_none() {
            let callbacks = py.import(intern!(py, "everbeat._callbacks"))?;
            callbacks.call_method1("log_condition", (place.name(), error))?;
        }
        Ok(())
    }
}
