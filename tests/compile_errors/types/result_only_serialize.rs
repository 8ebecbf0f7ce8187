//! A result that is `Serialize` and not `Deserialize`.

use idempotent_runtime::{Error, idempotent};

#[derive(serde::Serialize)]
struct Receipt;

#[idempotent]
async fn charge(order_id: u64) -> Result<Option<Receipt>, Error> {
    drop(order_id);
    Ok(Some(Receipt))
}

fn main() {
    drop(charge(1));
}
