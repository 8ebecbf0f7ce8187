//! A `?` on an error that does not convert.

use idempotent_runtime::{Error, idempotent};

#[idempotent]
async fn charge(order_id: &str) -> Result<u64, Error> {
    Ok(order_id.parse::<u64>()?)
}

fn main() {
    drop(charge("1"));
}
