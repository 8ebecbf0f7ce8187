//! A key that is not `Serialize`.

use idempotent_runtime::{Error, idempotent};

struct Order {
    id: u64,
}

#[idempotent(key = order, skip(order))]
async fn charge(order: Order) -> Result<u64, Error> {
    Ok(order.id)
}

fn main() {
    drop(charge(Order { id: 1 }));
}
