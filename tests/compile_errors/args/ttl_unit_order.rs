//! A duration whose units are out of order.

use idempotent_runtime::{Error, idempotent};

#[idempotent(ttl = "30m1h")]
async fn charge(order_id: u64) -> Result<u64, Error> {
    Ok(order_id)
}

fn main() {
    drop(charge(1));
}
