//! A result with a `'static` reference.

use idempotent_runtime::{Error, idempotent};

#[idempotent]
async fn charge(order_id: u64) -> Result<Vec<&'static [u64]>, Error> {
    drop(order_id);
    Ok(vec![&[1]])
}

fn main() {
    drop(charge(1));
}
