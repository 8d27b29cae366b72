//! What timers cost: everbeat beside what else there is, and beside what one would write by hand.
//!
//! ```sh
//! make bench-quick                  # some minutes
//! make bench                        # everything: hours
//! cargo run --release -- scale 1e5  # cases with all these words in their name
//! cargo run --release -- --list
//! ```
//!
//! `--repeat 5` instead of 3. Each measurement has a process of its own, and what is compared takes turns. A
//! figure is the median, with the least and the greatest; all of them are added to `results/`. Linux only.
// Lossy casts are for figures that are printed.
#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]

mod beats;
mod busy;
mod by_hand;
mod cases;
mod churn;
mod contenders;
mod delivery;
mod measure;
mod memory;
mod others;
mod ours;
mod precision;
mod results;
mod scale;
mod table;
mod tasks;
mod trips;
mod wheel;

fn main() {
    let options = cases::Options::from_args();
    let quick = options.quick;
    let mut groups = scale::groups(quick);
    groups.extend(precision::groups(quick));
    groups.extend(churn::groups(quick));
    groups.extend(memory::groups(quick));
    groups.extend(delivery::groups(quick));
    groups.extend(trips::groups(quick));
    groups.extend(busy::groups(quick));
    cases::run(&options, &groups);
}
