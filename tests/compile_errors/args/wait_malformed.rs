//! A `wait` that does not parse.

use idempotent_runtime::{Error, idempotent};

#[idempotent(wait = "ten seconds")]
async fn charge(order_id: u64) -> Result<u64, Error> {
    Ok(order_id)
}

fn main() {
    drop(charge(1));
}
