//! A limit below zero.

use idempotent_runtime::{Error, idempotent};

#[idempotent(key = id, max_attempts = -1)]
async fn charge(id: u64) -> Result<u64, Error> {
    Ok(id)
}

fn main() {
    drop(charge(1));
}
