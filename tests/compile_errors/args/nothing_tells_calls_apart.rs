//! No argument and no key.

use idempotent_runtime::{Error, idempotent};

#[idempotent]
async fn tick() -> Result<u64, Error> {
    Ok(1)
}

fn main() {
    drop(tick());
}
