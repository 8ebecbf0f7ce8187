//! `skip` of an argument whose name is misspelt.

use idempotent_runtime::{Error, idempotent};

#[idempotent(skip(databse), key = order_id)]
async fn charge(order_id: u64, database: u64) -> Result<u64, Error> {
    Ok(order_id)
}

fn main() {
    drop(charge(1, 2));
}
