//! `skip` as a list, before another option.

use idempotent_runtime::{Error, idempotent};

#[idempotent(skip = [order_id], detach)]
async fn charge(order_id: u64) -> Result<u64, Error> {
    Ok(order_id)
}

fn main() {
    drop(charge(1));
}
