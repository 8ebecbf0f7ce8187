//! `Result` under any alias, and every policy for errors.
#![deny(warnings)]

use idempotent_runtime::{Error, idempotent};
use serde::{Deserialize, Serialize};

#[derive(Debug, Serialize, Deserialize)]
enum PaymentError {
    Declined,
    Idempotency(String),
}

impl From<Error> for PaymentError {
    fn from(error: Error) -> Self {
        Self::Idempotency(error.to_string())
    }
}

impl PaymentError {
    fn is_final(&self) -> bool {
        matches!(self, Self::Declined)
    }
}

fn keep<E>(_: &E) -> bool {
    true
}

type Res<T, E = PaymentError> = Result<T, E>;
type Fixed = Result<u64, PaymentError>;

mod anyhow {
    pub(crate) type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync + 'static>>;
}

#[idempotent(errors = keep)]
async fn kept(id: u64) -> Res<u64> {
    Ok(id)
}

#[idempotent(errors = PaymentError::is_final)]
async fn kept_if(id: u64) -> Fixed {
    if id == 0 { Err(PaymentError::Declined) } else { Ok(id) }
}

// A path with `::` is a function, never the word `keep`.
#[idempotent(errors = self::keep)]
async fn generic_predicate(id: u64) -> core::result::Result<u64, PaymentError> {
    Ok(id)
}

#[idempotent(errors = release)]
async fn anyhow_like(id: u64) -> anyhow::Result<u64> {
    Ok(id)
}

#[idempotent]
async fn tuple(id: u64) -> Result<(u64, Option<()>, Vec<u8>), Error> {
    Ok((id, None, vec![]))
}

fn main() {
    drop((kept(1), kept_if(1), generic_predicate(1), anyhow_like(1), tuple(1)));
}
