//! What clients ask for, and what they get.

use std::fmt;

use idempotent_runtime::Disposition;
use serde::{Deserialize, Serialize};

/// A request. Retries and duplicates are the same request, with the same id.
#[derive(Clone, Serialize)]
pub(crate) struct Transfer {
    pub(crate) id: String,
    pub(crate) from: i64,
    pub(crate) to: i64,
    pub(crate) cents: i64,
}

/// The answer to a transfer that was made: the first time, and every time after.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Receipt {
    /// The ledger's entry for the account that paid.
    pub(crate) entry: i64,
    /// What that account was left with.
    pub(crate) balance_cents: i64,
}

/// What a client gets in the end.
pub(crate) struct Answer {
    pub(crate) result: Result<Receipt, TransferError>,
    pub(crate) disposition: Disposition,
    /// How often it was tried again.
    pub(crate) retries: u64,
    /// What the tries had made whose commit failed.
    pub(crate) in_doubt: Vec<Receipt>,
}

/// Why a transfer was not made.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum TransferError {
    /// The account that pays does not have that much. The answer stays the same if it has later.
    InsufficientFunds,
    /// There is no such account.
    NoSuchAccount,
    /// The database failed in the body. Never stored.
    #[serde(skip)]
    Database(sqlx::Error),
    /// The commit failed, or was not answered: the transfer was made or not, which the next try finds out. Has what
    /// the body returned, if it ran. Comes from the caller, not from the body.
    #[serde(skip)]
    Commit(sqlx::Error, Option<Receipt>),
    /// The call was not answered by a run of the function. Never stored: no run returns it.
    #[serde(skip)]
    Idempotency(idempotent_runtime::Error),
}

impl TransferError {
    /// Whether it is the answer to the request, to be kept and replayed.
    pub(crate) const fn is_final(&self) -> bool {
        matches!(self, Self::InsufficientFunds | Self::NoSuchAccount)
    }

    /// Whether it is worth trying again, in a new transaction: deadlocks, lost connections, a server that restarts.
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
