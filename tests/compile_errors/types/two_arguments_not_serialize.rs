//! Two arguments that cannot be hashed.

use idempotent_runtime::{Error, idempotent};

struct Database;

#[idempotent(key = order_id)]
async fn charge(database: &Database, order_id: u64, callback: impl Fn(u64)) -> Result<u64, Error> {
    let _ = database;
    callback(order_id);
    Ok(order_id)
}

fn main() {
    drop(charge(&Database, 1, drop));
}
