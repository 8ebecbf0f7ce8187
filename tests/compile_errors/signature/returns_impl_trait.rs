//! A result whose type has no name.

use idempotent_runtime::{Error, idempotent};

#[idempotent]
async fn charge(order_id: u64) -> Result<impl Iterator<Item = u64>, Error> {
    Ok(std::iter::once(order_id))
}

fn main() {
    drop(charge(1));
}
