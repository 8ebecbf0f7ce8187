//! A method without a name.

use idempotent_runtime::{Error, idempotent};

struct Shop;

impl Shop {
    #[idempotent]
    async fn charge(&self, order_id: u64) -> Result<u64, Error> {
        Ok(order_id)
    }
}

fn main() {
    drop(Shop.charge(1));
}
