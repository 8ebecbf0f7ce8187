//! Below an attribute that makes the function blocking.

use idempotent_runtime::{Error, idempotent};

#[tokio::main]
#[idempotent(key = order_id)]
async fn charge(order_id: u64) -> Result<u64, Error> {
    Ok(order_id)
}

fn main() {
    drop(charge(1));
}
