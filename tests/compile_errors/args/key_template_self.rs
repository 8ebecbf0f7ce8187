//! A template over `self`.

use idempotent_runtime::{Error, idempotent};

struct Shop {
    id: u64,
}

impl Shop {
    #[idempotent(name = "shop.charge", key = "{self}:{order_id}")]
    async fn charge(&self, order_id: u64) -> Result<u64, Error> {
        Ok(self.id + order_id)
    }
}

fn main() {
    drop(Shop { id: 1 }.charge(1));
}
