//! The transaction as a part of the key, in each form.

use idempotent_runtime::{Error, idempotent};
use sqlx::{Postgres, Transaction};

#[idempotent(key = (order_id, &tx), transaction = tx)]
async fn charge(tx: &mut Transaction<'_, Postgres>, order_id: u64) -> Result<u64, Error> {
    let _ = tx;
    Ok(order_id)
}

#[idempotent(key = "{tx}", transaction = tx)]
async fn refund(tx: &mut Transaction<'_, Postgres>, order_id: u64) -> Result<u64, Error> {
    let _ = tx;
    Ok(order_id)
}

fn main() {
    let _ = (charge, refund);
}
