//! What operators are told: explanations beside real calls, and the command `idempotent` as a user runs it.

#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "helpers of tests fail by panicking")]

mod command;
mod explained;
mod fixture;
mod listed;
mod resolved;
