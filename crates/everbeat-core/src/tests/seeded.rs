//! Random tests that can be repeated.

extern crate std;

use std::hash::{BuildHasher, RandomState};
use std::{env, format, println};

use proptest::test_runner::{Config, RngSeed};

/// The number in a variable of the environment.
pub(crate) fn number(variable: &str) -> Option<u64> {
    let text = env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{}", format!("{variable}={text} is no number"))))
}

/// How a property test runs. It says from which seed, which cargo prints if it fails; `PROPTEST_RNG_SEED` repeats it.
pub(crate) fn seeded() -> Config {
    let seed = number("PROPTEST_RNG_SEED").unwrap_or_else(|| RandomState::new().hash_one(0));
    println!("random cases; PROPTEST_RNG_SEED={seed} repeats them");
    Config { rng_seed: RngSeed::Fixed(seed), failure_persistence: None, ..Config::default() }
}
