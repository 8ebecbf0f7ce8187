//! A body of another type: the compiler says so, as ever.

use idempotent_runtime::{Error, idempotent};

#[idempotent]
async fn charge(order_id: u64) -> Result<String, Error> {
    Ok(order_id)
}

fn main() {
    drop(charge(1));
}
