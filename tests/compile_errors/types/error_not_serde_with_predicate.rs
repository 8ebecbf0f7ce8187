//! `errors = PATH` with an error that cannot be stored.

use idempotent_runtime::{Error, idempotent};

enum PaymentError {
    Idempotency(Error),
}

impl From<Error> for PaymentError {
    fn from(error: Error) -> Self {
        Self::Idempotency(error)
    }
}

fn is_final(error: &PaymentError) -> bool {
    matches!(error, PaymentError::Idempotency(_))
}

#[idempotent(errors = is_final)]
async fn charge(order_id: u64) -> Result<u64, PaymentError> {
    Ok(order_id)
}

fn main() {
    drop(charge(1));
}
