//! A `store` that is not an `Idempotency`.

use idempotent_runtime::{Error, idempotent};

#[idempotent(key = order_id, skip(store), store = store)]
async fn charge(store: &String, order_id: u64) -> Result<u64, Error> {
    Ok(order_id + store.len() as u64)
}

fn main() {
    drop(charge(&String::new(), 1));
}
