//! `crate` with a path that leads nowhere.

use idempotent_runtime::{Error, idempotent};

#[idempotent(crate = ::no_such_crate)]
async fn charge(order_id: u64) -> Result<u64, Error> {
    Ok(order_id)
}

fn main() {
    drop(charge(1));
}
