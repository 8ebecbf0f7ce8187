//! A pause without a unit, from an argument.

use idempotent_runtime::{Error, idempotent};

#[idempotent(key = id, retry_after = seconds)]
async fn charge(id: u64, seconds: u64) -> Result<u64, Error> {
    Ok(id + seconds)
}

fn main() {
    drop(charge(1, 2));
}
