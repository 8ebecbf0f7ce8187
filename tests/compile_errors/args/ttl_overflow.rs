//! A duration too long for 64 bits of milliseconds.

use idempotent_runtime::{Error, idempotent};

#[idempotent(ttl = "99999999999999999999d")]
async fn charge(order_id: u64) -> Result<u64, Error> {
    Ok(order_id)
}

fn main() {
    drop(charge(1));
}
