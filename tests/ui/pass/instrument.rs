//! With `#[tracing::instrument]`, in any order.
#![deny(warnings)]

use idempotent_runtime::{Error, idempotent};
use tracing::instrument;

#[instrument]
#[idempotent(key = order_id)]
async fn outside(order_id: &str, amount: u64) -> Result<u64, Error> {
    Ok(amount + order_id.len() as u64)
}

#[idempotent(key = order_id)]
#[instrument(err, ret, skip(amount), fields(order = order_id))]
async fn inside(order_id: &str, amount: u64) -> Result<u64, Error> {
    Ok(amount + order_id.len() as u64)
}

struct Shop;

impl Shop {
    #[instrument(skip(self))]
    #[idempotent(name = "shop.outside", key = order_id)]
    async fn outside(&self, order_id: &str) -> Result<usize, Error> {
        Ok(order_id.len())
    }

    #[idempotent(name = "shop.inside", key = order_id)]
    #[instrument(skip_all, err)]
    async fn inside(&mut self, order_id: &str) -> Result<usize, Error> {
        Ok(order_id.len())
    }
}

fn main() {
    drop((outside("", 1), inside("", 1), Shop.outside(""), Shop.inside("")));
}
