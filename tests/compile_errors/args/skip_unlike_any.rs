//! `skip` of an unknown argument, unlike any other.

use idempotent_runtime::{Error, idempotent};

#[idempotent(skip(context))]
async fn charge(order_id: u64, database: u64) -> Result<u64, Error> {
    Ok(order_id)
}

fn main() {
    drop(charge(1, 2));
}
