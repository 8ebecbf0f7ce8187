//! A lease longer than the `ttl`.

use idempotent_runtime::{Error, idempotent};

#[idempotent(ttl = "1m", lease = "2m")]
async fn charge(order_id: u64) -> Result<u64, Error> {
    Ok(order_id)
}

fn main() {
    drop(charge(1));
}
