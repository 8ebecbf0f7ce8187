use idempotent_runtime::{Error, idempotent};

#[idempotent(key = order_id, store = "redis://localhost")]
async fn charge(order_id: u64) -> Result<u64, Error> {
    Ok(order_id)
}

fn main() {
    drop(charge(1));
}
