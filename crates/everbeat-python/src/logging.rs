//! What the library reports through `tracing`, in Python's `logging`.
//!
//! An event of a timer goes to the logger `everbeat.timer.<name>`, one of an engine to `everbeat.engine.<name>`,
//! any other to `everbeat`. Spans are off, which keeps the library's short cuts open.

use std::fmt::{Debug, Write};
use std::sync::atomic::{AtomicUsize, Ordering};

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyType};
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::Interest;
use tracing::{Event, Level, Metadata, Subscriber};

use crate::call::call_out;

/// The failure of a run is logged by the faces themselves, with its traceback.
const LEFT_TO_THE_FACES: &str = "run failed";

/// From now on the library's reports reach `logging`. Calling it again changes nothing.
pub(crate) fn install() {
    // An error says that it is installed already: nothing else in this extension subscribes.
    let _ = tracing::subscriber::set_global_default(Bridge);
}

struct Bridge;

impl Subscriber for Bridge {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.enabled(metadata) { Interest::always() } else { Interest::never() }
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && *metadata.level() <= Level::DEBUG && metadata.name() != LEFT_TO_THE_FACES
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::DEBUG)
    }

    fn event(&self, event: &Event<'_>) {
        // There is nobody to tell once the interpreter has begun to go away.
        Python::try_attach(|py| {
            if let Err(error) = forward(py, event) {
                error.write_unraisable(py, None);
            }
        });
    }

    // There are no spans.
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

fn forward(py: Python<'_>, event: &Event<'_>) -> PyResult<()> {
    let level = python_level(*event.metadata().level());
    let is_silent = |logger: &Bound<'_, PyAny>| {
        PyResult::Ok(!logger.call_method1(intern!(py, "isEnabledFor"), (level,))?.is_truthy()?)
    };
    // Nearly all events end here, where nothing has been formatted yet.
    if !has_loggers_below(py)? && is_silent(root_logger(py)?)? {
        return Ok(());
    }
    let mut source = Source::default();
    event.record(&mut source);
    let name = source.logger_name();
    if is_silent(&nearest_logger(py, &name)?)? {
        return Ok(());
    }
    let mut text = Text::default();
    event.record(&mut text);
    let log = get_logger(py, &name)?.getattr(intern!(py, "log"))?;
    call_out(&log, &(level, source.introduce(&text)).into_pyobject(py)?, None)?;
    Ok(())
}

/// The logger of this name, if there is one, or else the one that it would inherit from. `logging` keeps
/// every logger that it was ever asked for: a program with many timers shall not pay for silent ones.
fn nearest_logger<'py>(py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
    let (class, known) = (logger_class(py)?, known_loggers(py)?);
    let mut name = name;
    loop {
        // What is known of a name may be a mere placeholder.
        if let Some(logger) = known.get_item(name)?.filter(|found| found.is_instance(class).unwrap_or(false))
        {
            return Ok(logger);
        }
        let Some((parent, _)) = name.rsplit_once('.') else { return get_logger(py, name) };
        name = parent;
    }
}

/// Whether there is any logger of a timer or an engine.
fn has_loggers_below(py: Python<'_>) -> PyResult<bool> {
    /// How many names were known when it was last found that none of them is; all of them, if one is. `logging`
    /// forgets no name.
    static NONE_AMONG: AtomicUsize = AtomicUsize::new(0);
    const ONE_IS: usize = usize::MAX;
    let (known, looked_at) = (known_loggers(py)?, NONE_AMONG.load(Ordering::Relaxed));
    if looked_at == ONE_IS || looked_at == known.len() {
        return Ok(looked_at == ONE_IS);
    }
    let (names, ours) = (known.keys(), ("everbeat.timer", "everbeat.engine"));
    let looked_at = names.len();
    for name in names {
        if name.call_method1(intern!(py, "startswith"), (ours,))?.is_truthy()? {
            NONE_AMONG.store(ONE_IS, Ordering::Relaxed);
            return Ok(true);
        }
    }
    NONE_AMONG.store(looked_at, Ordering::Relaxed);
    Ok(false)
}

/// The logger that all others of this package inherit from.
fn root_logger(py: Python<'_>) -> PyResult<&Bound<'_, PyAny>> {
    static ROOT: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    ROOT.get_or_try_init(py, || get_logger(py, "everbeat").map(Bound::unbind)).map(|root| root.bind(py))
}

/// The dictionary of all loggers, which `logging` never exchanges.
fn known_loggers(py: Python<'_>) -> PyResult<&Bound<'_, PyDict>> {
    static KNOWN: PyOnceLock<Py<PyDict>> = PyOnceLock::new();
    let known = KNOWN.get_or_try_init(py, || {
        let manager = logger_class(py)?.getattr("manager")?;
        PyResult::Ok(manager.getattr("loggerDict")?.cast_into::<PyDict>()?.unbind())
    });
    Ok(known?.bind(py))
}

fn logger_class(py: Python<'_>) -> PyResult<&Bound<'_, PyType>> {
    static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    CLASS.import(py, "logging", "Logger")
}

fn get_logger<'py>(py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
    static FUNCTION: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    FUNCTION.import(py, "logging", "getLogger")?.call1((name,))
}

fn python_level(level: Level) -> u8 {
    match level {
        Level::ERROR => 40,
        Level::WARN => 30,
        Level::INFO => 20,
        _ => 10,
    }
}

/// Whom an event is about.
#[derive(Default)]
struct Source {
    kind: &'static str,
    name: String,
}

impl Source {
    fn logger_name(&self) -> String {
        if self.kind.is_empty() {
            "everbeat".to_owned()
        } else {
            format!("everbeat.{}.{}", self.kind, self.name)
        }
    }

    /// Who reports what: a format without the logger's name must do as well.
    fn introduce(&self, text: &Text) -> String {
        let Text { message, details } = text;
        let mut line =
            if self.kind.is_empty() { String::new() } else { format!("{} {}: ", self.kind, self.name) };
        line.push_str(message);
        if !details.is_empty() {
            let _ = write!(line, " ({details})");
        }
        line
    }
}

impl Visit for Source {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if let Some(kind) = kind_of(field) {
            (self.kind, self.name) = (kind, format!("{value:?}"));
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }
}

fn kind_of(field: &Field) -> Option<&'static str> {
    ["timer", "engine"].into_iter().find(|kind| *kind == field.name())
}

/// What an event says: its message, and its other fields as `name=value`.
#[derive(Default)]
struct Text {
    message: String,
    details: String,
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        // The values belong to the library, and writing to a string does not fail.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            _ if kind_of(field).is_some() => Ok(()),
            name => {
                let comma = if self.details.is_empty() { "" } else { ", " };
                write!(self.details, "{comma}{name}={value:?}")
            }
        };
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }
}
