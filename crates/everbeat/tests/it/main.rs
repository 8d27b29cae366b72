//! The tokio face, in virtual time.

mod shapes;
