//! What a run may return: a value, or a `Result` of one.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use crate::error::BoxError;

/// What a run may return. `Ok` delivers the value, `Err` meets the timer's error policy.
///
/// Implemented for `Result<T, E>` with any `T` and any error that converts into a boxed one (all
/// standard errors, `anyhow::Error`, `String`, `&str`), and for every [`Value`].
#[diagnostic::on_unimplemented(
    message = "a run cannot return `{Self}`",
    label = "the target returns `{Self}`",
    note = "a run returns a `Result<T, E>`, or a plain value whose type implements `everbeat::Value`",
    note = "for a type of your own: `impl everbeat::Value for {Self} {{}}`, or return `everbeat::Plain(value)`"
)]
pub trait Outcome {
    /// What is delivered.
    type Value;

    /// The value, or why there is none.
    ///
    /// # Errors
    /// The run failed.
    fn into_result(self) -> Result<Self::Value, BoxError>;
}

/// A type that stands for itself when a run returns it: no failure is possible.
///
/// The usual types of the standard library have it. For a type of your own, one line does:
///
/// ```
/// struct Snapshot {
///     load: f64,
/// }
/// impl everbeat::Value for Snapshot {}
/// ```
///
/// A `Box` is none by itself, because a boxed iterator or stream is a source of values: return
/// [`Plain`]`(boxed)` where the box is the value.
#[diagnostic::on_unimplemented(
    message = "a run cannot return `{Self}`",
    note = "a run returns a `Result<T, E>`, or a plain value whose type implements `everbeat::Value`",
    note = "for a type of your own: `impl everbeat::Value for {Self} {{}}`, or return `everbeat::Plain(value)`"
)]
pub trait Value {}

/// Makes any type a value that a run may return, without implementing [`Value`] for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Plain<T>(pub T);

impl<V: Value> Outcome for V {
    type Value = V;

    fn into_result(self) -> Result<V, BoxError> {
        Ok(self)
    }
}

impl<T, E: Into<BoxError>> Outcome for Result<T, E> {
    type Value = T;

    fn into_result(self) -> Result<T, BoxError> {
        self.map_err(Into::into)
    }
}

impl<T> Outcome for Plain<T> {
    type Value = T;

    fn into_result(self) -> Result<T, BoxError> {
        Ok(self.0)
    }
}

macro_rules! values {
    ($($type:ty),* $(,)?) => { $(impl Value for $type {})* };
}

values!(
    (),
    bool,
    char,
    i8,
    i16,
    i32,
    i64,
    i128,
    isize,
    u8,
    u16,
    u32,
    u64,
    u128,
    usize,
    f32,
    f64,
    String,
    &'static str,
    Duration,
    Instant,
    SystemTime,
    everbeat_core::Cause,
    everbeat_core::Instant,
    everbeat_core::StopReason,
    everbeat_core::Tick,
);

#[cfg(feature = "tokio")]
values!(tokio::time::Instant);

macro_rules! generic_values {
    ($($type:ident<$($param:ident),*>),* $(,)?) => { $(impl<$($param),*> Value for $type<$($param),*> {})* };
}

generic_values!(
    Vec<T>, VecDeque<T>, Option<T>, HashMap<K, V, S>, HashSet<T, S>, BTreeMap<K, V>,
    BTreeSet<T>,
);

impl<T: ?Sized> Value for Arc<T> {}
impl<T, const N: usize> Value for [T; N] {}

macro_rules! tuple_values {
    ($(($($param:ident),*)),* $(,)?) => { $(impl<$($param),*> Value for ($($param,)*) {})* };
}

tuple_values!((A), (A, B), (A, B, C), (A, B, C, D), (A, B, C, D, E), (A, B, C, D, E, F));
