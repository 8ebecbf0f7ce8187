//! A pause that is longer than the `ttl`.

use idempotent_runtime::{Error, idempotent};

#[idempotent(key = id, ttl = "1h", retry_after = "2h")]
async fn charge(id: u64) -> Result<u64, Error> {
    Ok(id)
}

fn main() {
    drop(charge(1));
}
