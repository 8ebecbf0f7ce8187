//! The SQLite store on real files: settings, locks, processes, and what can happen to the file.

#![expect(clippy::expect_used, clippy::panic, reason = "helpers of tests fail the test")]

use idempotent_tests::{sqlite_file, wait::wait_for};

mod batches;
mod clocks;
mod durability;
mod faults;
mod journal;
mod locked_out;
mod processes;
mod schema;
mod support;
mod version_2;
mod version_3;
mod version_5;
