//! A `reconcile` function without `Reconciled`.

use idempotent_runtime::{Error, Execution, idempotent};

#[idempotent(key = id, abandoned = reconcile(find))]
async fn charge(id: u64) -> Result<u64, Error> {
    Ok(id)
}

async fn find(_: &Execution, _: u64) -> Result<Option<u64>, Error> {
    Ok(None)
}

fn main() {
    drop(charge(1));
}
