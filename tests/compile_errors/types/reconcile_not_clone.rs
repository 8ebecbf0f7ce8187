//! An argument by value that cannot be given twice.

use idempotent_runtime::{Error, Execution, Reconciled, idempotent};

#[derive(serde::Serialize)]
struct Order {
    id: u64,
}

#[idempotent(key = order.id, abandoned = reconcile(find))]
async fn charge(order: Order) -> Result<u64, Error> {
    Ok(order.id)
}

async fn find(_: &Execution, order: Order) -> Result<Reconciled<u64>, Error> {
    Ok(Reconciled::Done(order.id))
}

fn main() {
    drop(charge(Order { id: 1 }));
}
