//! `errors = PATH` with an unknown function.

use idempotent_runtime::{Error, idempotent};

#[idempotent(errors = is_final)]
async fn charge(order_id: u64) -> Result<u64, Error> {
    Ok(order_id)
}

fn main() {
    drop(charge(1));
}
