//! A boxed future by hand, in the shape of `#[async_trait]`.
#![deny(warnings)]

use std::pin::Pin;

use idempotent_runtime::{Error, idempotent};

#[idempotent(key = order_id)]
fn charge(order_id: &str, amount: u64) -> Pin<Box<dyn Future<Output = Result<u64, Error>> + Send + '_>> {
    let doubled = amount * 2;
    Box::pin(async move {
        if order_id.is_empty() {
            return Ok(0);
        }
        Ok(doubled)
    })
}

fn main() {
    drop(charge("", 1));
}
