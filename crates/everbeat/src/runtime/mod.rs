//! The tokio face: a task for each timer, on the runtime in which it was started.

pub(crate) mod attendance;
pub(crate) mod clock;
pub(crate) mod driver;
pub(crate) mod task;
