//! An error type without `From`, in a transaction: reported once.

use idempotent_runtime::idempotent;
use sqlx::{Postgres, Transaction};

#[idempotent(key = order_id, transaction = tx)]
async fn charge(tx: &mut Transaction<'_, Postgres>, order_id: u64) -> Result<u64, String> {
    let _ = tx;
    Ok(order_id)
}

fn main() {
    let _ = charge;
}
