//! Mistakes in the signature and in the options, in one build.

use idempotent_runtime::{Error, idempotent};

struct Shop;

impl Shop {
    #[idempotent(tll = "1h", skip(log))]
    async fn charge(&self, order_id: &mut u64, _: u64) -> Result<&'static u64, Error> {
        drop(order_id);
        Ok(&1)
    }
}

fn main() {
    drop(Shop.charge(&mut 1, 2));
}
