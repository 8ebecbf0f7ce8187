//! A type parameter without the bound.

use idempotent_runtime::{Error, idempotent};

#[idempotent(name = "payments.charge", key = order_id)]
async fn charge<T>(order: T, order_id: u64) -> Result<u64, Error> {
    drop(order);
    Ok(order_id)
}

fn main() {
    drop(charge(1, 2));
}
