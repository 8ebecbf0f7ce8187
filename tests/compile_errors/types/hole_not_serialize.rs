//! A template over an argument that is not `Serialize`.

use idempotent_runtime::{Error, idempotent};

struct Order {
    id: u64,
}

#[idempotent(key = "{tenant}:{order}", skip(order))]
async fn charge(tenant: &str, order: Order) -> Result<u64, Error> {
    drop(tenant);
    Ok(order.id)
}

fn main() {
    drop(charge("", Order { id: 1 }));
}
