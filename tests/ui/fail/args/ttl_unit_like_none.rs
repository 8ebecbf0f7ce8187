//! A duration in a unit that there is not.

use idempotent_runtime::{Error, idempotent};

#[idempotent(ttl = "1y")]
async fn charge(order_id: u64) -> Result<u64, Error> {
    Ok(order_id)
}

fn main() {
    drop(charge(1));
}
