//! The tokio face, in virtual time. Every test names the clause that it proves.

mod attribute;
mod cancel_safety;
mod delivery;
mod failures;
mod groups;
mod guarantees;
mod lifecycle;
mod logs;
mod resources;
mod schedule;
mod shapes;
mod support;
mod test_clocks;
