//! A pool in place of a transaction.

use idempotent_runtime::{Error, idempotent};
use sqlx::PgPool;

#[idempotent(key = order_id, transaction = pool)]
async fn charge(pool: &mut PgPool, order_id: u64) -> Result<u64, Error> {
    let _ = pool;
    Ok(order_id)
}

fn main() {
    let _ = charge;
}
