//! A declaration in a trait.

use idempotent_runtime::{Error, idempotent};

trait Charges {
    #[idempotent(name = "charges.charge")]
    async fn charge(&self, order_id: u64) -> Result<u64, Error>;
}

struct Shop;

impl Charges for Shop {
    async fn charge(&self, order_id: u64) -> Result<u64, Error> {
        Ok(order_id)
    }
}

fn main() {
    drop(Shop.charge(1));
}
