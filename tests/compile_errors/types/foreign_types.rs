//! Types of other crates without serde's traits, as argument, key and result.

use std::time::Instant;

use idempotent_runtime::{Error, idempotent};

#[idempotent(key = order_id)]
async fn charge(order_id: u64, at: Instant) -> Result<u64, Error> {
    let _ = at;
    Ok(order_id)
}

#[idempotent(key = at, skip(at))]
async fn refund(at: Instant, order_id: u64) -> Result<u64, Error> {
    let _ = at;
    Ok(order_id)
}

#[idempotent]
async fn capture(order_id: u64) -> Result<Instant, Error> {
    let _ = order_id;
    Ok(Instant::now())
}

fn main() {
    drop(charge(1, Instant::now()));
    drop(refund(Instant::now(), 1));
    drop(capture(1));
}
