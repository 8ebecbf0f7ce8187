//! Error types that the orphan rule lets nobody convert into.

use idempotent_runtime::{Error, idempotent};

#[idempotent]
async fn charge(order_id: u64) -> Result<u64, sqlx::Error> {
    let _ = Error::ClaimLost;
    Ok(order_id)
}

#[idempotent]
async fn refund(order_id: u64) -> Result<u64, String> {
    Ok(order_id)
}

fn main() {
    drop(charge(1));
    drop(refund(1));
}
