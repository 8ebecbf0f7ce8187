//! Requests and answers.

use std::fmt;

use idempotent_runtime::Disposition;
use serde::{Deserialize, Serialize};

/// A request. A retry is the same request, with the same id.
#[derive(Clone, Serialize)]
pub(crate) struct Transfer {
    pub(crate) id: String,
    pub(crate) from: i64,
    pub(crate) to: i64,
    pub(crate) cents: i64,
}

/// The answer to a transfer that was made: to the first request and to every repeat.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Receipt {
    /// The ledger's entry for the account that paid.
    pub(crate) entry: i64,
    /// The balance of that account afterwards.
    pub(crate) balance_cents: i64,
}

/// The final answer to a client.
pub(crate) struct Answer {
    pub(crate) result: Result<Receipt, TransferError>,
    pub(crate) disposition: Disposition,
    /// The number of retries.
    pub(crate) retries: u64,
    /// The receipts of tries whose commit failed or was not answered.
    pub(crate) in_doubt: Vec<Receipt>,
}

/// The reason why a transfer was not made.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum TransferError {
    /// The paying account has too little. The answer stays the same, even if the account has enough later.
    InsufficientFunds,
    /// There is no such account.
    NoSuchAccount,
    /// The database failed in the body. Never stored.
    #[serde(skip)]
    Database(sqlx::Error),
    /// The commit failed or was not answered: the next try finds out whether the transfer was made. Holds the receipt of the
    /// body, if it ran. The caller returns this error, never the body.
    #[serde(skip)]
    Commit(sqlx::Error, Option<Receipt>),
    /// The call failed without a run of the function. Never stored.
    #[serde(skip)]
    Idempotency(idempotent_runtime::Error),
}

impl TransferError {
    /// True if the error is the answer to the request, to be kept and replayed.
    pub(crate) const fn is_final(&self) -> bool {
        matches!(self, Self::InsufficientFunds | Self::NoSuchAccount)
    }

    /// True if a retry in a new transaction may succeed: after a deadlock, a lost connection, a restart of the server.
    pub(crate) const fn is_retryable(&self) -> bool {
        match self {
            Self::InsufficientFunds | Self::NoSuchAccount => false,
            Self::Database(_) | Self::Commit(..) => true,
            Self::Idempotency(error) => error.is_retryable(),
        }
    }
}

impl From<idempotent_runtime::Error> for TransferError {
    fn from(error: idempotent_runtime::Error) -> Self {
        Self::Idempotency(error)
    }
}

impl From<sqlx::Error> for TransferError {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error)
    }
}

impl fmt::Display for TransferError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InsufficientFunds => f.write_str("insufficient funds"),
            Self::NoSuchAccount => f.write_str("there is no such account"),
            Self::Database(_) => f.write_str("the database failed"),
            Self::Commit(..) => f.write_str("the commit failed"),
            Self::Idempotency(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for TransferError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::InsufficientFunds | Self::NoSuchAccount => None,
            Self::Database(error) | Self::Commit(error, _) => Some(error),
            Self::Idempotency(error) => error.source(),
        }
    }
}
