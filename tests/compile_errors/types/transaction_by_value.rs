//! A transaction by value, and one by shared reference.

use idempotent_runtime::{Error, idempotent};
use sqlx::{Postgres, Transaction};

#[idempotent(key = order_id, transaction = tx)]
async fn charge(tx: Transaction<'_, Postgres>, order_id: u64) -> Result<u64, Error> {
    let _ = tx;
    Ok(order_id)
}

#[idempotent(key = order_id, transaction = tx)]
async fn refund(tx: &Transaction<'_, Postgres>, order_id: u64) -> Result<u64, Error> {
    let _ = tx;
    Ok(order_id)
}

fn main() {
    let _ = (charge, refund);
}
