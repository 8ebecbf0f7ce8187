//! The SQLite store on real files: settings, locks, processes, and what can happen to the file.

#![expect(clippy::expect_used, clippy::panic, reason = "helpers of tests fail the test")]

use idempotent_tests::{redis_server::wait_for, sqlite_file};

#[path = "sqlite_store/durability.rs"]
mod durability;
#[path = "sqlite_store/faults.rs"]
mod faults;
#[path = "sqlite_store/processes.rs"]
mod processes;
#[path = "sqlite_store/schema.rs"]
mod schema;
#[path = "sqlite_store/support.rs"]
mod support;
