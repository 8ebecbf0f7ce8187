//! An error type without `From<idempotent_runtime::Error>`.

use idempotent_runtime::idempotent;

#[derive(Debug)]
enum PaymentError {
    Declined,
}

#[idempotent]
async fn charge(order_id: u64) -> Result<u64, PaymentError> {
    if order_id == 0 { Err(PaymentError::Declined) } else { Ok(order_id) }
}

fn main() {
    drop(charge(1));
}
