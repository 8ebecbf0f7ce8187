//! A `&mut` argument in the hash.

use idempotent_runtime::{Error, idempotent};

#[idempotent]
async fn charge(order_id: u64, log: &mut Vec<String>) -> Result<u64, Error> {
    log.push(order_id.to_string());
    Ok(order_id)
}

fn main() {
    drop(charge(1, &mut vec![]));
}
