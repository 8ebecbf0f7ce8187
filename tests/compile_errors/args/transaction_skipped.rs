//! `skip` of the transaction.

use idempotent_runtime::{Error, idempotent};
use sqlx::{Postgres, Transaction};

#[idempotent(key = order_id, transaction = tx, skip(tx))]
async fn charge(tx: &mut Transaction<'_, Postgres>, order_id: u64) -> Result<u64, Error> {
    let _ = tx;
    Ok(order_id)
}

fn main() {
    let _ = charge;
}
