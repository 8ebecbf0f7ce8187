//! `errors = keep` with an error that cannot be stored.

use idempotent_runtime::{Error, idempotent};

enum PaymentError {
    Idempotency(Error),
}

impl From<Error> for PaymentError {
    fn from(error: Error) -> Self {
        Self::Idempotency(error)
    }
}

#[idempotent(errors = keep)]
async fn charge(order_id: u64) -> Result<u64, PaymentError> {
    if order_id == 0 { Err(PaymentError::Idempotency(Error::ClaimLost)) } else { Ok(order_id) }
}

fn main() {
    drop(charge(1));
}
