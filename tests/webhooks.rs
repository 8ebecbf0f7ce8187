//! `webhooks`, as a user runs it: processes on one database, over real sockets, line by line of the checklist (`c01_…`).
//! Effects are counted in the database, with the test's own eyes.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests fail by panicking"
)]

#[path = "webhooks/clients.rs"]
mod clients;
#[path = "webhooks/database.rs"]
mod database;
#[path = "webhooks/deliveries.rs"]
mod deliveries;
#[path = "webhooks/duplicates.rs"]
mod duplicates;
#[path = "webhooks/keys.rs"]
mod keys;
#[path = "webhooks/kills.rs"]
mod kills;
#[path = "webhooks/order.rs"]
mod order;
#[path = "webhooks/program.rs"]
mod program;
#[path = "webhooks/signatures.rs"]
mod signatures;
#[path = "webhooks/usage.rs"]
mod usage;
