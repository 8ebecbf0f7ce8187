//! Every mistake is reported in one build.

use idempotent_runtime::{Error, idempotent};

#[idempotent(tll = "1h", ttl = 30, key = "order", skip(db), abandoned = forget, detach = yes, lease = "0s")]
async fn charge(order_id: u64) -> Result<u64, Error> {
    Ok(order_id)
}

fn main() {
    drop(charge(1));
}
