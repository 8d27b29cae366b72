//! Calls of code that may block, on threads that may be there when the interpreter goes away.
//!
//! A thread that is blocked in C, in a `time.sleep` say, cannot be asked to end, and the exit of the interpreter does
//! not wait for it for ever. When it comes back, Python before 3.14 ends it by `pthread_exit`, which unwinds its
//! stack. What is dropped on that way would use an interpreter that is gone, and take the process down. So the
//! way ends here: the thread stays until the process has ended, as Python itself has it do from 3.14 on.

use std::hint::black_box;
use std::mem::transmute;
use std::ptr;
use std::thread;

use pyo3::ffi::{self, PyObject};
use pyo3::prelude::*;
use pyo3::types::iterator::PySendResult;
use pyo3::types::{PyDict, PyIterator, PyTuple};

/// `function(*args, **kwargs)`.
#[allow(unsafe_code)]
pub(crate) fn call_out<'py>(
    function: &Bound<'py, PyAny>,
    args: &Bound<'py, PyTuple>,
    kwargs: Option<&Bound<'py, PyDict>>,
) -> PyResult<Bound<'py, PyAny>> {
    type Call = unsafe extern "C" fn(*mut PyObject, *mut PyObject, *mut PyObject) -> *mut PyObject;
    type Unwinding =
        unsafe extern "C-unwind" fn(*mut PyObject, *mut PyObject, *mut PyObject) -> *mut PyObject;
    // SAFETY: the two types differ in that the second does not promise to return, and in nothing else.
    // The compiler should not find out which function it is: it knows that one by its promise. `black_box` is only a
    // hint; if it were not heeded, the process would end as it did before.
    let call: Unwinding = black_box(unsafe { transmute::<Call, Unwinding>(ffi::PyObject_Call) });
    let kwargs = kwargs.map_or(ptr::null_mut(), Bound::as_ptr);
    // Nothing here needs to be dropped before this is, and its drop does not return: the unwinding ends in it.
    let mut stay = Stay { returned: false };
    // SAFETY: the interpreter is attached, as `'py` says, and these are an object, a tuple, and a dictionary or
    // null.
    let result = unsafe { call(function.as_ptr(), args.as_ptr(), kwargs) };
    stay.returned = true;
    // SAFETY: it is a new reference, or null with an exception set.
    unsafe { Bound::from_owned_ptr_or_err(function.py(), result) }
}

/// `awaited.send(None)`.
#[allow(unsafe_code)]
pub(crate) fn step_out<'py>(awaited: &Bound<'py, PyIterator>) -> PyResult<PySendResult<'py>> {
    type Send = unsafe extern "C" fn(*mut PyObject, *mut PyObject, *mut *mut PyObject) -> ffi::PySendResult;
    type Unwinding =
        unsafe extern "C-unwind" fn(*mut PyObject, *mut PyObject, *mut *mut PyObject) -> ffi::PySendResult;
    let py = awaited.py();
    // SAFETY: as in `call_out`.
    let send: Unwinding = black_box(unsafe { transmute::<Send, Unwinding>(ffi::PyIter_Send) });
    let (none, mut result) = (py.None().into_bound(py), ptr::null_mut());
    let mut stay = Stay { returned: false };
    // SAFETY: the interpreter is attached, as `'py` says, and these are an iterator, an object, and a place for a
    // reference.
    let how = unsafe { send(awaited.as_ptr(), none.as_ptr(), &raw mut result) };
    stay.returned = true;
    // SAFETY: it is a new reference, or null with an exception set.
    let value = unsafe { Bound::from_owned_ptr_or_err(py, result) }?;
    Ok(match how {
        ffi::PySendResult::PYGEN_RETURN => PySendResult::Return(value),
        _ => PySendResult::Next(value),
    })
}

struct Stay {
    returned: bool,
}

impl Drop for Stay {
    fn drop(&mut self) {
        if !self.returned {
            loop {
                thread::park();
            }
        }
    }
}
