//! Orders and answers.

use std::{fmt, time::Duration};

use idempotent_runtime::Error;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use serde::{Deserialize, Serialize};
use tokio::time::error::Elapsed;

/// The number of articles in the shop. They are numbered from 1.
pub(crate) const ARTICLES: i64 = 12;

/// An order. A retry is the same order, with the same id.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(crate) struct Order {
    pub(crate) id: String,
    pub(crate) article: i64,
    pub(crate) quantity: i64,
    pub(crate) cents: i64,
}

impl Order {
    /// The order with a number. It depends on seed and number alone.
    pub(crate) fn new(seed: u64, number: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed.wrapping_mul(0x2545_f491_4f6c_dd1d) ^ number);
        let (article, quantity) = (random.random_range(1..=ARTICLES), random.random_range(1..=3));
        Self { id: format!("{seed}-{number:05}"), article, quantity, cents: quantity * (995 + 250 * article) }
    }
}

/// The answer to an order that was placed: to the first request and to every repeat.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Confirmation {
    /// The numbers of the charge, the reservation and the mail, in the books of those who made them.
    pub(crate) charge: i64,
    pub(crate) reservation: i64,
    pub(crate) mail: i64,
    /// The attempt that came to the end.
    pub(crate) attempt: u32,
}

/// The reason why an order is not placed yet.
#[derive(Debug)]
pub(crate) enum OrderError {
    /// The card network or the mail server did not answer in time.
    NoAnswer,
    /// The database of the stock failed.
    Stock(sqlx::Error),
    /// A call failed without a run of the function.
    Idempotency(Error),
}

impl OrderError {
    /// The time after which the same order may succeed; `None` if it will not.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        /// Two clicks are no reason to wait for a whole lease: the other one may have been answered long before.
        const LONGEST: Duration = Duration::from_millis(500);
        match self {
            Self::Idempotency(Error::InFlight { retry_after, .. } | Error::Suspended { retry_after, .. }) => {
                Some((*retry_after).min(LONGEST))
            }
            Self::Idempotency(error) if !error.is_retryable() => None,
            Self::NoAnswer | Self::Stock(_) | Self::Idempotency(_) => Some(Duration::from_millis(10)),
        }
    }
}

impl From<Elapsed> for OrderError {
    fn from(_: Elapsed) -> Self {
        Self::NoAnswer
    }
}

impl From<sqlx::Error> for OrderError {
    fn from(error: sqlx::Error) -> Self {
        Self::Stock(error)
    }
}

impl From<Error> for OrderError {
    fn from(error: Error) -> Self {
        Self::Idempotency(error)
    }
}

impl fmt::Display for OrderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoAnswer => f.write_str("no answer in time"),
            Self::Stock(_) => f.write_str("the database of the stock failed"),
            Self::Idempotency(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for OrderError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::NoAnswer => None,
            Self::Stock(error) => Some(error),
            Self::Idempotency(error) => error.source(),
        }
    }
}
