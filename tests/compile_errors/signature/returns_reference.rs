//! A borrowed result.

use idempotent_runtime::{Error, idempotent};

#[idempotent]
async fn charge(order_id: &str) -> Result<&str, Error> {
    Ok(order_id)
}

fn main() {
    drop(charge("1"));
}
