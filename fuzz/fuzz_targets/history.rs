//! Bytes as a history: the core has to do what the model says.
#![no_main]

use everbeat_conformance::compare_history;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    compare_history(bytes).unwrap_or_else(|difference| panic!("{difference}"));
});
