//! A template with an expression.

use idempotent_runtime::{Error, idempotent};

#[idempotent(key = "order:{order.id}")]
async fn charge(order: (u64, u64)) -> Result<u64, Error> {
    Ok(order.0)
}

fn main() {
    drop(charge((1, 2)));
}
