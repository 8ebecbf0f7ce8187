//! A duration in an unknown unit.

use idempotent_runtime::{Error, idempotent};

#[idempotent(ttl = "1y")]
async fn charge(order_id: u64) -> Result<u64, Error> {
    Ok(order_id)
}

fn main() {
    drop(charge(1));
}
