//! An option that is given twice.

use idempotent_runtime::{Error, idempotent};

#[idempotent(ttl = "1h", key = order_id, ttl = "2h")]
async fn charge(order_id: u64) -> Result<u64, Error> {
    Ok(order_id)
}

fn main() {
    drop(charge(1));
}
