use idempotent_runtime::{Error, Idempotency, idempotent};

#[idempotent(key = order_id, store = Idempotency::connect("memory:").await?)]
async fn charge(order_id: u64) -> Result<u64, Error> {
    Ok(order_id)
}

#[idempotent(key = order_id, store = Idempotency::builder().connect("memory:"))]
async fn refund(order_id: u64) -> Result<u64, Error> {
    Ok(order_id)
}

fn main() {
    drop((charge(1), refund(1)));
}
