//! A template over an unknown argument.

use idempotent_runtime::{Error, idempotent};

#[idempotent(key = "order:{ordr_id}")]
async fn charge(order_id: u64) -> Result<u64, Error> {
    Ok(order_id)
}

fn main() {
    drop(charge(1));
}
