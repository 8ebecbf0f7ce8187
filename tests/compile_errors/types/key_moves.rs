//! A body that uses a value after moving it: the error is about the body, not about the key.

use idempotent_runtime::{Error, idempotent};

#[idempotent(key = order_id)]
async fn charge(order_id: String) -> Result<String, Error> {
    drop(order_id);
    Ok(order_id)
}

fn main() {
    drop(charge(String::new()));
}
