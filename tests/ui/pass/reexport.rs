//! Through a crate that re-exports the runtime.
#![deny(warnings)]

mod framework {
    pub use idempotent_runtime as idempotency;
}

use framework::idempotency::{Error, idempotent};

#[idempotent(key = id, crate = crate::framework::idempotency, abandoned = refuse, store = store, skip(store))]
async fn charge(store: &framework::idempotency::Idempotency, id: u64) -> Result<u64, Error> {
    let _ = store;
    Ok(id)
}

#[idempotent(key = "{id}", crate = framework::idempotency, ttl = "1h")]
async fn relative(id: u64) -> Result<u64, Error> {
    Ok(id)
}

fn main() {
    drop(relative(1));
    let _ = |store: &'static framework::idempotency::Idempotency| drop(charge(store, 1));
}
