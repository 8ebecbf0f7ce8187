//! An argument whose type is a parameter of the type around the method.

use idempotent_runtime::{Error, idempotent};

trait Gateway {
    type Order;
}

struct Shop<G>(G);

impl<G: Gateway> Shop<G> {
    #[idempotent(name = "shop.charge", key = order_id)]
    async fn charge(&self, order: G::Order, order_id: u64) -> Result<u64, Error> {
        drop(order);
        Ok(order_id)
    }
}

fn main() {}
