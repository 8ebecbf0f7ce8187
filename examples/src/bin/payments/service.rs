//! The service: two functions that a gateway may call any number of times. This is the file to copy from.

use std::fmt;

use idempotent_runtime::{Execution, idempotent};
use serde::{Deserialize, Serialize};

use crate::bank::Bank;

/// A client's request.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Payment {
    pub(crate) idempotency_key: String,
    pub(crate) order_id: String,
    pub(crate) amount_cents: u64,
    pub(crate) currency: String,
    pub(crate) card: String,
}

/// The answer to the first request and to every repeat.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Receipt {
    /// The bank's name for the movement of money.
    pub(crate) transaction: String,
    /// The run of the function that made this receipt. A replay has the same one.
    pub(crate) run: String,
}

/// Charges an order once, however often it is called.
///
/// `detach` runs it on a task of its own: a client that gives up does not stop a charge half-way. A declined card is final and
/// replayed. An outage of the bank frees the key, so that a retry charges.
#[idempotent(
    name = "payments.charge",
    key = payment.idempotency_key,
    ttl = "7d",
    skip(bank),
    errors = PaymentError::is_final,
    detach
)]
pub(crate) async fn charge(bank: Bank, payment: Payment) -> Result<Receipt, PaymentError> {
    bank.debit(&bank_key("debit"), &payment).await
}

/// Refunds once. Without `detach`, a client that gives up abandons the run, and the retry takes over.
#[idempotent(
    name = "payments.refund",
    key = payment.idempotency_key,
    ttl = "7d",
    skip(bank),
    errors = PaymentError::is_final
)]
pub(crate) async fn refund(bank: &Bank, payment: &Payment) -> Result<Receipt, PaymentError> {
    bank.credit(&bank_key("credit"), payment).await
}

/// The key for the bank. It is the same in every attempt, so that the bank recognises the request of a run that crashed.
#[expect(clippy::expect_used, reason = "called by the bodies of idempotent functions only")]
fn bank_key(label: &str) -> String {
    Execution::current().expect("inside an idempotent function").child_key(label)
}

/// The reason why a payment was not made.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum PaymentError {
    /// The bank said no, and will say so again.
    Declined,
    /// The bank gave no answer.
    BankUnavailable,
    /// The call failed without a run of the function. Never stored.
    #[serde(skip)]
    Idempotency(idempotent_runtime::Error),
}

impl PaymentError {
    /// True if a retry gets this error again, instead of another try.
    pub(crate) const fn is_final(&self) -> bool {
        matches!(self, Self::Declined)
    }
}

impl From<idempotent_runtime::Error> for PaymentError {
    fn from(error: idempotent_runtime::Error) -> Self {
        Self::Idempotency(error)
    }
}

impl fmt::Display for PaymentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Declined => f.write_str("the card was declined"),
            Self::BankUnavailable => f.write_str("the bank is unavailable"),
            Self::Idempotency(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for PaymentError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Idempotency(error) => error.source(),
            Self::Declined | Self::BankUnavailable => None,
        }
    }
}
