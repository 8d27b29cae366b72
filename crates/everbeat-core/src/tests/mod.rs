//! The arithmetic against plain loops, wider numbers and the laws of chance.

mod chance;
mod grid;
mod numbers;
pub(crate) mod seeded;
