//! A result that cannot be stored.

use idempotent_runtime::{Error, idempotent};

struct Receipt;

#[idempotent]
async fn charge(order_id: u64) -> Result<Receipt, Error> {
    drop(order_id);
    Ok(Receipt)
}

fn main() {
    drop(charge(1));
}
