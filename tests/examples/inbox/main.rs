//! `inbox`, as a user runs it: its consumers are killed at random, on each database and each broker. Whatever happens, each order is
//! booked once, and what follows from it is booked once.
//!
//! `INBOX_MESSAGES` and `INBOX_KILLS` make the runs longer than their 200 messages with 4 kills, `INBOX_SEED` repeats one as far as
//! processes allow.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests fail by panicking"
)]

mod program;
mod runs;
mod usage;

/// A number from a variable, or the default one.
fn variable(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| value.parse().expect("a number"))
}
