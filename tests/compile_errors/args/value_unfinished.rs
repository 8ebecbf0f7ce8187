//! Values that end too early, as while typing. The functions exist all the same.

use idempotent_runtime::{Error, idempotent};

struct Order {
    id: u64,
}

#[idempotent(key = order.)]
async fn charge(order: Order) -> Result<u64, Error> {
    Ok(order.id)
}

#[idempotent(key = order_id, crate = ::)]
async fn refund(order_id: u64) -> Result<u64, Error> {
    Ok(order_id)
}

fn main() {
    drop((charge(Order { id: 1 }), refund(1)));
}
