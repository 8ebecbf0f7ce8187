//! An unknown type, reported once.

use idempotent_runtime::{Error, idempotent};

#[idempotent]
async fn charge(order_id: u64) -> Result<Receit, Error> {
    todo!("{order_id}")
}

fn main() {
    drop(charge(1));
}
