//! `settle_after` where nobody is asked.

use idempotent_runtime::{Error, idempotent};

#[idempotent(key = id, abandoned = refuse, settle_after = "1m")]
async fn charge(id: u64) -> Result<u64, Error> {
    Ok(id)
}

fn main() {
    drop(charge(1));
}
