//! What timers on threads cost, next to what one would write by hand: CPU and memory at scale, lateness,
//! churn, round trips.
//!
//! ```sh
//! cargo bench -p everbeat --bench threads                     # everything: more than an hour
//! cargo bench -p everbeat --bench threads -- --quick          # small: some minutes
//! cargo bench -p everbeat --bench threads -- scale/1e5 inline # cases with all these words in their name
//! cargo bench -p everbeat --bench threads -- --list precision # only say which those are
//! ```
//!
//! `--repeat 5` instead of 3. Each measurement has a process of its own, and what is compared takes turns.
//! A figure is the median, with the least and the greatest. Linux only.
// Lossy casts are for figures that are printed.
#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]

#[cfg(target_os = "linux")]
#[path = "threads/churn.rs"]
mod churn;
#[cfg(target_os = "linux")]
#[path = "threads/measure.rs"]
mod measure;
#[cfg(target_os = "linux")]
#[path = "threads/peers.rs"]
mod peers;
#[cfg(target_os = "linux")]
#[path = "threads/precision.rs"]
mod precision;
#[cfg(target_os = "linux")]
#[path = "threads/report.rs"]
mod report;
#[cfg(target_os = "linux")]
#[path = "threads/scale.rs"]
mod scale;
#[cfg(target_os = "linux")]
#[path = "threads/wheel.rs"]
mod wheel;

#[cfg(target_os = "linux")]
fn main() {
    let options = report::Options::from_args();
    let mut groups = scale::groups(options.quick);
    groups.extend(precision::groups(options.quick));
    groups.extend(churn::groups(options.quick));
    report::run(&options, &groups);
}

#[cfg(not(target_os = "linux"))]
fn main() {
    println!("this bench reads what only Linux tells");
}
