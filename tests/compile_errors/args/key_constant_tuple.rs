//! A tuple of constants.

use idempotent_runtime::{Error, idempotent};

#[idempotent(key = ("order", (1, -2)))]
async fn charge(order_id: u64) -> Result<u64, Error> {
    Ok(order_id)
}

fn main() {
    drop(charge(1));
}
