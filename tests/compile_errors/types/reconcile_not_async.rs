//! A `reconcile` function that is not `async`.

use idempotent_runtime::{Error, Execution, Reconciled, idempotent};

#[idempotent(key = id, abandoned = reconcile(find))]
async fn charge(id: u64) -> Result<u64, Error> {
    Ok(id)
}

fn find(_: &Execution, _: u64) -> Result<Reconciled<u64>, Error> {
    Ok(Reconciled::Unknown)
}

fn main() {
    drop(charge(1));
}
