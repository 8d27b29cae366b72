//! The attribute `#[everbeat::every]`.
