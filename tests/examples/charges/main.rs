//! `charges`, as a user runs it: the official Stripe client against its process, with faults of every kind between them
//! and while it is killed. Every charge is made once.
//!
//! `CHARGES_SEED` repeats a run as far as processes allow.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "helpers of tests fail by panicking"
)]

mod client;
mod server;
mod stripe_client;
mod tables;
mod usage;
