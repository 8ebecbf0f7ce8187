//! An argument without a name.

use idempotent_runtime::{Error, idempotent};

#[idempotent]
async fn charge(order_id: u64, _: u64) -> Result<u64, Error> {
    Ok(order_id)
}

fn main() {
    drop(charge(1, 2));
}
