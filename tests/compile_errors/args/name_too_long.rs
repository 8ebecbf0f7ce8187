//! A name longer than stores accept.

use idempotent_runtime::{Error, idempotent};

#[idempotent(name = "payments.payments.payments.payments.payments.payments.payments.payments.payments.payments.payments.payments.payments.payments.payments.payments.payments.payments.payments.payments.payments.payments.payments.payments.payments.payments.payments.payments.payments.")]
async fn charge(order_id: u64) -> Result<u64, Error> {
    Ok(order_id)
}

fn main() {
    drop(charge(1));
}
