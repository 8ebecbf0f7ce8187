//! An option whose value is missing.

use idempotent_runtime::{Error, idempotent};

#[idempotent(key)]
async fn charge(order_id: u64) -> Result<u64, Error> {
    Ok(order_id)
}

fn main() {
    drop(charge(1));
}
