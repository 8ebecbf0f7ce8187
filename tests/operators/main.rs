//! What operators are told: explanations beside real calls, and the command `idempotent` as a user runs it.

#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "helpers of tests fail by panicking")]
#![expect(clippy::incompatible_msrv, reason = "the SQL stores need Rust 1.94, and these tests need them")]

mod command;
mod explained;
mod fixture;
mod listed;
