//! A body that uses what it moved: the key is not to blame.

use idempotent_runtime::{Error, idempotent};

#[idempotent(key = order_id)]
async fn charge(order_id: String) -> Result<String, Error> {
    drop(order_id);
    Ok(order_id)
}

fn main() {
    drop(charge(String::new()));
}
