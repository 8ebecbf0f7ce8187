//! A function that is generic over a constant, without a name.

use idempotent_runtime::{Error, idempotent};

#[idempotent]
async fn charge<const FEE: u64>(order_id: u64) -> Result<u64, Error> {
    Ok(order_id + FEE)
}

fn main() {
    drop(charge::<3>(1));
}
