//! `crate` in quotes, as serde has it.

use idempotent_runtime::{Error, idempotent};

#[idempotent(crate = "idempotent_runtime")]
async fn charge(order_id: u64) -> Result<u64, Error> {
    Ok(order_id)
}

fn main() {
    drop(charge(1));
}
