//! A pattern that leaves a part out.

use idempotent_runtime::{Error, idempotent};

struct Order {
    id: u64,
    #[allow(dead_code)]
    amount: u64,
}

#[idempotent]
async fn charge(Order { id, .. }: Order, (left, _): (u64, u64)) -> Result<u64, Error> {
    Ok(id + left)
}

fn main() {
    drop(charge(Order { id: 1, amount: 2 }, (1, 2)));
}
