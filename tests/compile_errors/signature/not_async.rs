//! A function that is not async.

use idempotent_runtime::{Error, idempotent};

#[idempotent]
fn charge(order_id: u64) -> Result<u64, Error> {
    Ok(order_id)
}

fn main() {
    drop(charge(1));
}
