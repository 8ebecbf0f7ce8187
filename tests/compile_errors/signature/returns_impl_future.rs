//! A function that returns a future without saying `async`.

use idempotent_runtime::{Error, idempotent};

#[idempotent]
fn charge(order_id: u64) -> impl Future<Output = Result<u64, Error>> {
    async move { Ok(order_id) }
}

fn main() {
    drop(charge(1));
}
