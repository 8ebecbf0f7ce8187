//! `abandoned` with an unknown word.

use idempotent_runtime::{Error, idempotent};

#[idempotent(abandoned = forget)]
async fn charge(order_id: u64) -> Result<u64, Error> {
    Ok(order_id)
}

fn main() {
    drop(charge(1));
}
