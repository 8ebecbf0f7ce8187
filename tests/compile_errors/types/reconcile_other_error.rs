//! A `reconcile` function with another error.

use idempotent_runtime::{Error, Execution, Reconciled, idempotent};

struct Other;

#[idempotent(key = id, abandoned = reconcile(find))]
async fn charge(id: u64) -> Result<u64, Error> {
    Ok(id)
}

async fn find(_: &Execution, _: u64) -> Result<Reconciled<u64>, Other> {
    Err(Other)
}

fn main() {
    drop(charge(1));
}
