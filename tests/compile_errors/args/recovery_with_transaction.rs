//! Options that a rollback would take back, all at once.

use idempotent_runtime::{Error, Execution, Reconciled, idempotent};
use idempotent_runtime::store::transactional::OpenTransaction;

#[idempotent(name = "charge", key = id, transaction = tx, abandoned = reconcile(find), max_attempts = 3, retry_after = "1s")]
async fn charge<T: OpenTransaction>(tx: &mut T, id: u64) -> Result<u64, Error> {
    Ok(id)
}

async fn find<T: OpenTransaction>(_: &Execution, _: &mut T, _: u64) -> Result<Reconciled<u64>, Error> {
    Ok(Reconciled::Unknown)
}

fn main() {}
