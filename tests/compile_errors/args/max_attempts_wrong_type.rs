//! A limit of another integer type.

use idempotent_runtime::{Error, idempotent};

const LIMIT: usize = 3;

#[idempotent(key = id, max_attempts = LIMIT)]
async fn charge(id: u64) -> Result<u64, Error> {
    Ok(id)
}

fn main() {
    drop(charge(1));
}
