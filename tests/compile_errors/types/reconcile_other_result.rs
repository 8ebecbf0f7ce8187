//! A `reconcile` function that finds another value.

use idempotent_runtime::{Error, Execution, Reconciled, idempotent};

#[idempotent(key = id, abandoned = reconcile(find))]
async fn charge(id: u64) -> Result<u64, Error> {
    Ok(id)
}

async fn find(_: &Execution, _: u64) -> Result<Reconciled<String>, Error> {
    Ok(Reconciled::Unknown)
}

fn main() {
    drop(charge(1));
}
