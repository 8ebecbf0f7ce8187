use idempotent_runtime::{Error, idempotent};
use serde::Serialize;

#[idempotent]
async fn charge(order: impl Serialize) -> Result<u64, Error> {
    let _ = order;
    Ok(1)
}

fn main() {}
