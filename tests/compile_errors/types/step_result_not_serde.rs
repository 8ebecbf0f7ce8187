//! A step whose value cannot be stored.

use idempotent_runtime::{Error, idempotent, step};

struct Receipt(u64);

async fn bank() -> Result<Receipt, Error> {
    Ok(Receipt(1))
}

#[idempotent(key = id)]
async fn charge(id: u64) -> Result<u64, Error> {
    let receipt = step("bank", bank()).await?;
    Ok(id + receipt.0)
}

fn main() {
    drop(charge(1));
}
