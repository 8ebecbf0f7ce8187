//! `errors` that is neither of its words nor a path.

use idempotent_runtime::{Error, idempotent};

#[idempotent(errors = "store")]
async fn charge(order_id: u64) -> Result<u64, Error> {
    Ok(order_id)
}

fn main() {
    drop(charge(1));
}
