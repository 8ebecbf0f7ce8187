//! `transaction` with an expression in place of a name.

use idempotent_runtime::{Error, idempotent};
use sqlx::{Postgres, Transaction};

#[idempotent(key = order_id, transaction = &mut tx)]
async fn charge(tx: &mut Transaction<'_, Postgres>, order_id: u64) -> Result<u64, Error> {
    let _ = tx;
    Ok(order_id)
}

fn main() {
    let _ = charge;
}
