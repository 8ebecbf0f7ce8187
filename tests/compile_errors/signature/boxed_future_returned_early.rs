//! A body that returns a second boxed future early, which would run without a claim.

use std::pin::Pin;

use idempotent_runtime::{Error, idempotent};

#[idempotent(key = order_id)]
fn charge(order_id: u64) -> Pin<Box<dyn Future<Output = Result<u64, Error>> + Send>> {
    if order_id == 0 {
        return Box::pin(async { Ok(0) });
    }
    Box::pin(async move { Ok(order_id) })
}

fn main() {
    drop(charge(1));
}
