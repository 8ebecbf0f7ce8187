//! On SQLite.

#[path = "../both/atomicity.rs"]
mod atomicity;
#[path = "../both/cancellation.rs"]
mod cancellation;
#[path = "../both/duplicates.rs"]
mod duplicates;
mod locks;
#[path = "../both/nesting.rs"]
mod nesting;
#[path = "../both/states.rs"]
mod states;
mod support;
#[path = "../both/transfer.rs"]
mod transfer;
