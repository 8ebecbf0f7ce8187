//! A step whose error cannot carry those of the library.

use idempotent_runtime::{Error, idempotent, step};

#[derive(Debug)]
struct BankError;

async fn bank() -> Result<u64, BankError> {
    Ok(1)
}

#[idempotent(key = id)]
async fn charge(id: u64) -> Result<u64, Error> {
    let receipt = step("bank", bank()).await.map_err(|_| Error::NotInstalled)?;
    Ok(id + receipt)
}

fn main() {
    drop(charge(1));
}
