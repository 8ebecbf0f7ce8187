//! A receiver that borrows inside a `Pin`.

use idempotent_runtime::{Error, idempotent};

use std::pin::Pin;

struct Shop;

impl Shop {
    #[idempotent(name = "shop.charge", detach)]
    async fn charge(self: Pin<&mut Self>, order_id: u64) -> Result<u64, Error> {
        Ok(order_id)
    }
}

fn main() {
    drop(Pin::new(&mut Shop).charge(1));
}
