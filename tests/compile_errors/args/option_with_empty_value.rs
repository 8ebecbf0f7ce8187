//! An option whose value is missing after the `=`.

use idempotent_runtime::{Error, idempotent};

#[idempotent(key = , ttl = "1h")]
async fn charge(order_id: u64) -> Result<u64, Error> {
    Ok(order_id)
}

fn main() {
    drop(charge(1));
}
