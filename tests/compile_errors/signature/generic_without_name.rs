//! A generic function without a name.

use idempotent_runtime::{Error, idempotent};

use serde::Serialize;

#[idempotent]
async fn charge<T: Serialize>(order: T) -> Result<u64, Error> {
    drop(order);
    Ok(1)
}

fn main() {
    drop(charge(1));
}
