//! A lease of zero.

use idempotent_runtime::{Error, idempotent};

#[idempotent(lease = "0ms")]
async fn charge(order_id: u64) -> Result<u64, Error> {
    Ok(order_id)
}

fn main() {
    drop(charge(1));
}
