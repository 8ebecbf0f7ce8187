//! A template without its option.

use idempotent_runtime::{Error, idempotent};

#[idempotent("order:{order_id}")]
async fn charge(order_id: u64) -> Result<u64, Error> {
    Ok(order_id)
}

fn main() {
    drop(charge(1));
}
