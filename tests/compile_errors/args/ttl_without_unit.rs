//! A duration without a unit.

use idempotent_runtime::{Error, idempotent};

#[idempotent(ttl = "30")]
async fn charge(order_id: u64) -> Result<u64, Error> {
    Ok(order_id)
}

fn main() {
    drop(charge(1));
}
