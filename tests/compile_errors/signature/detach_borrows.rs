//! Every kind of borrow that a detached body cannot have.

use idempotent_runtime::{Error, idempotent};

use std::borrow::Cow;

struct Shop;

impl Shop {
    #[idempotent(name = "shop.charge", detach)]
    async fn charge<'a>(&self, order_id: &str, lines: &'a [u64], note: Cow<'a, str>) -> Result<u64, Error> {
        drop((order_id, note));
        Ok(lines.len() as u64)
    }
}

fn main() {
    drop(Shop.charge("", &[], "".into()));
}
