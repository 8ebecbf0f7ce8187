//! An `Option` in place of a `Result`.

use idempotent_runtime::idempotent;

#[idempotent]
async fn charge(order_id: u64) -> Option<u64> {
    Some(order_id)
}

fn main() {
    drop(charge(1));
}
