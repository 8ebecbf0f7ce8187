//! An empty name.

use idempotent_runtime::{Error, idempotent};

#[idempotent(name = "")]
async fn charge(order_id: u64) -> Result<u64, Error> {
    Ok(order_id)
}

fn main() {
    drop(charge(1));
}
