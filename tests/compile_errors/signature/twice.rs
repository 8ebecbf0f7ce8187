//! The attribute twice: both would claim one key.

use idempotent_runtime::{Error, idempotent};

#[idempotent(key = order_id)]
#[doc = "Between."]
#[idempotent_runtime::idempotent(key = order_id)]
async fn charge(order_id: u64) -> Result<u64, Error> {
    Ok(order_id)
}

fn main() {
    drop(charge(1));
}
