//! `errors = PATH` with a function over another error type.

use idempotent_runtime::{Error, idempotent};

fn is_final(error: &std::fmt::Error) -> bool {
    error.to_string().is_empty()
}

#[idempotent(errors = is_final)]
async fn charge(order_id: u64) -> Result<u64, Failure> {
    Ok(order_id)
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Failure(String);

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self(error.to_string())
    }
}

fn main() {
    drop(charge(1));
}
