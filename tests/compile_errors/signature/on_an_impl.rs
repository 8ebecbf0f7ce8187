//! A whole `impl`.

use idempotent_runtime::{idempotent};

struct Shop;

#[idempotent]
impl Shop {
    fn charge(&self) {}
}

fn main() {
    Shop.charge();
}
