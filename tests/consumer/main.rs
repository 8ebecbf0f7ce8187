//! Messages are worked off once, whatever happens to their consumers, their brokers and their database.
//!
//! Most tests are on a scripted broker, with a fault at every settlement, on PostgreSQL and SQLite.
#![expect(clippy::unwrap_used, reason = "a test fails so")]

mod commit_call;
mod dead_letters;
mod desk;
mod elsewhere;
mod letter_faults;
mod loops;
mod once;
mod poolers;
mod refused;
mod replay_kills;
mod sweeper;
