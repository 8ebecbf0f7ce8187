//! On PostgreSQL.

#[path = "../both/atomicity.rs"]
mod atomicity;
#[path = "../both/cancellation.rs"]
mod cancellation;
#[path = "../both/duplicates.rs"]
mod duplicates;
mod faults;
mod isolation;
#[path = "../both/nesting.rs"]
mod nesting;
mod sessions;
#[path = "../both/states.rs"]
mod states;
mod support;
#[path = "../both/transfer.rs"]
mod transfer;
