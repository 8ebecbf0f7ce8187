//! A result and an error that are type parameters without bounds.

use idempotent_runtime::{Error, idempotent};

#[idempotent(name = "payments.charge")]
async fn charge<T: Default>(order_id: u64) -> Result<T, Error> {
    let _ = order_id;
    Ok(T::default())
}

#[idempotent(name = "payments.refund")]
async fn refund<E>(order_id: u64) -> Result<u64, E> {
    Ok(order_id)
}

fn main() {}
