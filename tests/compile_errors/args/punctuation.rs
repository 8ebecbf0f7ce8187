//! Separators that are not commas, and a comma too many.

use idempotent_runtime::{Error, idempotent};

#[idempotent(key = order_id; ttl = "1h",, lease = 30s, TTL = "1h", wait = "10 s")]
async fn charge(order_id: u64) -> Result<u64, Error> {
    Ok(order_id)
}

fn main() {
    drop(charge(1));
}
