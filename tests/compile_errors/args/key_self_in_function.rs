//! A key over `self` where there is none.

use idempotent_runtime::{Error, idempotent};

#[idempotent(key = self.id)]
async fn charge(order_id: u64) -> Result<u64, Error> {
    Ok(order_id)
}

fn main() {
    drop(charge(1));
}
