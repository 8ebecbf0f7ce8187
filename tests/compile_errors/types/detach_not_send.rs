//! A detached body that is not `Send`.

use idempotent_runtime::{Error, idempotent};

#[idempotent(detach)]
async fn charge(order_id: u64) -> Result<u64, Error> {
    let shared = std::rc::Rc::new(order_id);
    std::future::ready(()).await;
    Ok(*shared)
}

fn main() {
    drop(charge(1));
}
