//! `webhooks`, as a user runs it: processes on one database, over real sockets, line by line of the checklist (`c01_…`).
//! Effects are counted in the database, with the test's own eyes.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests fail by panicking"
)]

mod clients;
mod deliveries;
mod duplicates;
mod keys;
mod kills;
mod order;
mod program;
mod signatures;
mod tables;
mod usage;
