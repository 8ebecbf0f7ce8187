//! A value without its option.

use idempotent_runtime::{Error, idempotent};

#[idempotent("24h")]
async fn charge(order_id: u64) -> Result<u64, Error> {
    Ok(order_id)
}

fn main() {
    drop(charge(1));
}
