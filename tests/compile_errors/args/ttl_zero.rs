//! A `ttl` of zero.

use idempotent_runtime::{Error, idempotent};

#[idempotent(ttl = "0s")]
async fn charge(order_id: u64) -> Result<u64, Error> {
    Ok(order_id)
}

fn main() {
    drop(charge(1));
}
