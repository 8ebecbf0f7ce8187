//! A closure in place of the path of a function.

use idempotent_runtime::{Error, idempotent};

#[idempotent(errors = |error: &Error| error.is_retryable())]
async fn charge(order_id: u64) -> Result<u64, Error> {
    Ok(order_id)
}

fn main() {
    drop(charge(1));
}
