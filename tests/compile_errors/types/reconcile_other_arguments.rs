//! A `reconcile` function that lacks an argument.

use idempotent_runtime::{Error, Execution, Reconciled, idempotent};

#[idempotent(key = id, abandoned = reconcile(find))]
async fn charge(id: &str, cents: u64) -> Result<u64, Error> {
    Ok(id.len() as u64 + cents)
}

async fn find(_: &Execution, _: &str) -> Result<Reconciled<u64>, Error> {
    Ok(Reconciled::Unknown)
}

fn main() {
    drop(charge("a", 1));
}
