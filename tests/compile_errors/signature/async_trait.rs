//! Mistakes in the shape that `#[async_trait]` leaves.

use idempotent_runtime::{Error, idempotent};

#[async_trait::async_trait]
trait Charges {
    async fn charge(&self, order_id: u64, _: u64) -> Result<u64, Error>;
    async fn refund(&self, order_id: &str) -> Result<String, Error>;
}

struct Shop;

#[async_trait::async_trait]
impl Charges for Shop {
    #[idempotent]
    async fn charge(&self, order_id: u64, _: u64) -> Result<u64, Error> {
        Ok(order_id)
    }

    #[idempotent(name = "shop.refund", detach, key = "{order}")]
    async fn refund(&self, order_id: &str) -> Result<String, Error> {
        Ok(order_id.to_owned())
    }
}

fn main() {
    drop((Shop.charge(1, 2), Shop.refund("")));
}
