//! A body of another type: the compiler reports it as in a plain function.

use idempotent_runtime::{Error, idempotent};

#[idempotent]
async fn charge(order_id: u64) -> Result<String, Error> {
    Ok(order_id)
}

fn main() {
    drop(charge(1));
}
