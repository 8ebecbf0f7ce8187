//! A key that is the same for every call.

use idempotent_runtime::{Error, idempotent};

#[idempotent(key = 17)]
async fn charge(order_id: u64) -> Result<u64, Error> {
    Ok(order_id)
}

fn main() {
    drop(charge(1));
}
