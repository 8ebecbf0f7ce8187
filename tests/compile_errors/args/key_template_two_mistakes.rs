//! Two holes, both wrong.

use idempotent_runtime::{Error, idempotent};

#[idempotent(key = "{a}:{b}")]
async fn charge(order_id: u64) -> Result<u64, Error> {
    Ok(order_id)
}

fn main() {
    drop(charge(1));
}
