//! The attribute `#[everbeat::every]`. Use it through the crate `everbeat`, which exports it.

mod expand;
mod function;
mod options;
#[cfg(test)]
mod tests;
mod value;

use proc_macro::TokenStream;

/// Gives a function a timer that runs it periodically.
///
/// The function stays what it is and can be called as before. Beside it appears a type of the same name,
/// with the same visibility, that makes timers of it:
///
/// | call | gives |
/// |---|---|
/// | `refresh::start()?` | a `Timer`, started on the tokio runtime that this is called in |
/// | `refresh::timer()?` | a `Timer` to be started later, by itself or in a `Group` |
/// | `refresh::builder()` | the `Builder`, for what only code can say; `.start(refresh)` ends it |
///
/// Each call makes a timer of its own. It is a `Timer<T>` where the function returns `T` or
/// `Result<T, E>`.
///
/// ```
/// use everbeat::{OnError, Tick};
/// use std::time::Duration;
///
/// #[everbeat::every("30s", fixed_rate, jitter = 0.1, run_timeout = "3s", on_error = OnError::Continue)]
/// async fn refresh() -> std::io::Result<Vec<u8>> {
///     Ok(vec![1, 2, 3]) // fetch something
/// }
///
/// #[everbeat::every("100ms", max_runs = 3)]
/// fn count(tick: Tick) -> u64 {
///     tick.run
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let cache = refresh::start()?;
/// cache.wait_hits(1).await?; // serve nothing before the first success
/// assert_eq!(cache.latest().as_deref(), Some(&vec![1, 2, 3]));
///
/// let counter = count::builder().initial_delay(Duration::from_millis(1)).start(count)?;
/// counter.wait().await?;
/// assert_eq!(counter.latest().as_deref(), Some(&3));
///
/// let once = refresh().await?; // still a function
/// # assert_eq!(once, [1, 2, 3]);
/// # cache.shutdown(Duration::from_secs(5)).await;
/// # Ok(())
/// # }
/// ```
///
/// # The function
///
/// It is a free function, sync or async, in a module or in the body of another function. It takes
/// nothing, or one `everbeat::Tick`. It returns nothing, a value or a `Result`: what `everbeat::Outcome`
/// is implemented for, and the return type is written out, without `impl`. An `async fn` must be `Send`,
/// like every target.
///
/// # Options
///
/// First comes the period, by itself. The options follow in any order, and each does what the method of
/// the same name does to a `Builder`.
///
/// | option | value | default |
/// |---|---|---|
/// | `fixed_rate`, `fixed_delay` | none; at most one of the two | `fixed_delay` |
/// | `initial_delay = "1s"` | a duration | `"0s"` |
/// | `jitter = 0.1` | a fraction of the period from 0 to 1 | 0 |
/// | `jitter_seed = 42` | a whole number | random |
/// | `missed = Missed::Delay` | an expression, a `Missed` | `Missed::Skip` |
/// | `max_lateness = "1s"` | a duration | no limit |
/// | `keep_phase` | none | triggered runs move the grid |
/// | `max_runs = 3` | a whole number, at least 1 | no limit |
/// | `run_for = "1h"` | a duration | no limit |
/// | `run_timeout = "3s"` | a duration, longer than zero | no limit |
/// | `on_error = OnError::Continue` | an expression, an `OnError` or what `OnError::backoff` returns | `OnError::Stop` |
/// | `blocked_after = "1s"` | a duration | `"100ms"` |
/// | `name = "db_refresh"` | a text | the function's path, such as `my_app::jobs::refresh` |
/// | `histograms = false` | `true` or `false` | `true` |
/// | `crate = my_lib::everbeat` | the path under which the crate is known here | `::everbeat` |
///
/// A duration is a text of whole numbers with units: `"5s"`, `"100ms"`, `"1m 30s"`, `"2h"`, `"7days"`. It
/// is read at compile time. A period of `"0s"` means "as often as possible".
///
/// An expression is evaluated whenever a timer or a builder is made.
///
/// # Errors
///
/// Whatever can be checked is refused by the compiler, at the word that is wrong: an option that is
/// unknown or given twice, a bad value, two modes, no period, a function that a timer cannot run. The
/// schedule can only be refused at run time by the value of an expression, such as
/// `on_error = OnError::backoff(first, max)` with `max` below `first`; then `timer` and `start` return
/// `Error::Schedule`.
///
/// ```compile_fail
/// #[everbeat::every("5s", jitter = 1.5)] // `jitter` must be a fraction of the period from 0 to 1
/// fn refresh() {}
/// ```
///
/// # Names
///
/// Because of the type, no other type or module of the function's name can be in its scope. Attributes of
/// the function stay with the function. `#[cfg]`, `#[deprecated]` and `#[doc(hidden)]` below this one
/// hold for the type, too.
#[proc_macro_attribute]
pub fn every(arguments: TokenStream, item: TokenStream) -> TokenStream {
    expand::every(arguments.into(), &item.into()).into()
}
