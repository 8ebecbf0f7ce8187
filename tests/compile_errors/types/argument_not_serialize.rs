//! An argument that cannot be hashed.

use idempotent_runtime::{Error, idempotent};

struct Database;

#[idempotent(key = order_id)]
async fn charge(database: &Database, order_id: u64) -> Result<u64, Error> {
    let _ = database;
    Ok(order_id)
}

fn main() {
    drop(charge(&Database, 1));
}
