//! No return type.

use idempotent_runtime::{idempotent};

#[idempotent]
async fn charge(order_id: u64) {
    drop(order_id);
}

fn main() {
    drop(charge(1));
}
