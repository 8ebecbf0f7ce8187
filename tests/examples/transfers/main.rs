//! `transfers`, as a user runs it: processes on one database, which crash, are killed and lose their connections and
//! their server. Whatever happens, the books agree to the cent, and each transfer is made once or not at all.
//!
//! `TRANSFERS_SECONDS` makes the long runs longer than their twenty seconds, `TRANSFERS_SEED` repeats one as far as
//! processes allow.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests fail by panicking"
)]

mod commits;
mod kills;
mod program;
mod steps;
mod tables;
mod usage;
mod workers;

use std::time::Duration;

/// The length of a long run.
fn run_time() -> Duration {
    Duration::from_secs(std::env::var("TRANSFERS_SECONDS").map_or(20, |seconds| seconds.parse().expect("seconds")))
}

/// The seed of a run, printed for its repetition.
fn seed(run: &str) -> u64 {
    let random = || u64::from(rand::random::<u32>());
    let seed = std::env::var("TRANSFERS_SEED").map_or_else(|_| random(), |seed| seed.parse().expect("a seed"));
    println!("{run}: TRANSFERS_SEED={seed}");
    seed
}
