//! Bytes as operations on the queue of deadlines: it has to do what a map would.
#![no_main]

use everbeat_conformance::compare_queue;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    compare_queue(bytes).unwrap_or_else(|difference| panic!("{difference}"));
});
