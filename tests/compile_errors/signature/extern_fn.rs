//! An `extern` function.

use idempotent_runtime::{Error, idempotent};

#[idempotent]
extern "C" fn charge(order_id: u64) -> Result<u64, Error> {
    Ok(order_id)
}

fn main() {
    drop(charge(1));
}
