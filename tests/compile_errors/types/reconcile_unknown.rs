//! A function that does not exist.

use idempotent_runtime::{Error, idempotent};

#[idempotent(key = id, abandoned = reconcile(find_charge))]
async fn charge(id: u64) -> Result<u64, Error> {
    Ok(id)
}

fn main() {
    drop(charge(1));
}
