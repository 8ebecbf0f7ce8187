//! No argument beside the transaction, and no key.

use idempotent_runtime::{Error, idempotent};
use sqlx::{Postgres, Transaction};

#[idempotent(transaction = tx)]
async fn charge(tx: &mut Transaction<'_, Postgres>) -> Result<u64, Error> {
    let _ = tx;
    Ok(1)
}

fn main() {
    let _ = charge;
}
