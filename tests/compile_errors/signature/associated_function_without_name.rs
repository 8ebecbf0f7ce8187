//! An associated function whose signature mentions `Self`.

use idempotent_runtime::{Error, idempotent};

struct Shop(u64);

impl Shop {
    #[idempotent]
    async fn open(order_id: u64, other: Option<Box<Self>>) -> Result<u64, Error> {
        drop(other);
        Ok(order_id)
    }
}

fn main() {
    drop(Shop::open(Shop(1).0, None));
}
