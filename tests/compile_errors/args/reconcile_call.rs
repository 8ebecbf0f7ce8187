//! A call in the place of a path.

use idempotent_runtime::{Error, Execution, Reconciled, idempotent};

#[idempotent(key = id, abandoned = reconcile(find(id)))]
async fn charge(id: u64) -> Result<u64, Error> {
    Ok(id)
}

async fn find(_: &Execution, _: u64) -> Result<Reconciled<u64>, Error> {
    Ok(Reconciled::Unknown)
}

fn main() {
    drop(charge(1));
    let _ = find;
}
