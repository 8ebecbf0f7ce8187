//! A result that cannot be stored, in a `Result` under an alias.

use idempotent_runtime::idempotent;

struct Receipt;

#[idempotent]
async fn charge(order_id: u64) -> std::io::Result<Receipt> {
    drop(order_id);
    Ok(Receipt)
}

fn main() {
    drop(charge(1));
}
