//! A struct.

use idempotent_runtime::{idempotent};

#[idempotent]
struct Order {
    id: u64,
}

fn main() {
    drop(Order { id: 1 }.id);
}
