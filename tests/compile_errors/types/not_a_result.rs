//! A return type that is not a `Result`.

use idempotent_runtime::idempotent;

#[idempotent]
async fn charge(order_id: u64) -> u64 {
    order_id
}

fn main() {
    drop(charge(1));
}
