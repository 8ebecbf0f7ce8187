//! `skip` of the same argument twice.

use idempotent_runtime::{Error, idempotent};

#[idempotent(skip(a, a))]
async fn charge(order_id: u64, a: u64) -> Result<u64, Error> {
    Ok(order_id)
}

fn main() {
    drop(charge(1, 2));
}
