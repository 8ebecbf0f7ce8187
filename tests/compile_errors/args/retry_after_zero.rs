//! A pause of nothing.

use idempotent_runtime::{Error, idempotent};

#[idempotent(key = id, retry_after = "0s")]
async fn charge(id: u64) -> Result<u64, Error> {
    Ok(id)
}

fn main() {
    drop(charge(1));
}
