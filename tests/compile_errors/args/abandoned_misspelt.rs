//! `abandoned` with a word that is misspelt.

use idempotent_runtime::{Error, idempotent};

#[idempotent(abandoned = refuze)]
async fn charge(order_id: u64) -> Result<u64, Error> {
    Ok(order_id)
}

fn main() {
    drop(charge(1));
}
