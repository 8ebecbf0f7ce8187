//! `orders`, as a user runs it: workers are killed at random, on every shared store. Whatever happens, each order is charged,
//! reserved and mailed once.
//!
//! `ORDERS` and `ORDERS_KILLS` make the runs longer than their 60 orders with 12 kills, `ORDERS_SEED` repeats one as far as
//! processes allow.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests fail by panicking"
)]

mod kills;
mod program;
mod usage;

/// A number from a variable, or the default one.
fn variable(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| value.parse().expect("a number"))
}

/// The seed of a run, printed for its repetition.
fn seed(run: &str) -> u64 {
    let seed = variable("ORDERS_SEED", u64::from(rand::random::<u32>()));
    println!("{run}: ORDERS_SEED={seed}");
    seed
}
