//! A method without arguments and without a key.

use idempotent_runtime::{Error, idempotent};

struct Shop {
    id: u64,
}

impl Shop {
    #[idempotent(name = "shop.tick")]
    async fn tick(&self) -> Result<u64, Error> {
        Ok(self.id)
    }
}

fn main() {
    drop(Shop { id: 1 }.tick());
}
