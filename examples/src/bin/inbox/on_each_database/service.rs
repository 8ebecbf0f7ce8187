//! The service: two inboxes, and what they book. This is the file to copy from.
//!
//! This file is compiled twice: with `Db` as `sqlx::Postgres`, and as `sqlx::Sqlite`. In your service, write the one that you use.

use std::{fmt, time::Duration};

use idempotent_runtime::{
    Backoff, Execution, Idempotency, SetupError,
    consumer::{Inbox, Message},
    outbox::{Outbox, Outgoing},
};
use sqlx::{Transaction, query};

use super::Db;
use crate::messages::{Order, OrderPaid, Trouble};

/// Short, so that nobody has to wait for the claims of a killed process. In a service, leave it out: the default is 30 s.
pub(super) const LEASE: Duration = Duration::from_secs(2);
/// The most runs of a message.
pub(super) const MAX_ATTEMPTS: u32 = 10;
/// The pauses between two attempts. In a service, leave them out too: they grow from a second to five minutes.
const PAUSES: Backoff = Backoff::exponential(Duration::from_millis(10), Duration::from_millis(80));

/// The topics, by which the broker names its queues.
pub(super) const ORDERS: &str = "inbox-orders";
pub(super) const PAYMENTS: &str = "inbox-payments";

/// An inbox for a handler. Its name is in the key of each record: each handler works each message off once.
pub(super) fn inbox(idempotency: &Idempotency, handler: &str) -> Result<Inbox<BookError>, SetupError> {
    Inbox::builder(idempotency.clone(), "shop", handler)
        .lease(LEASE)
        .max_attempts(MAX_ATTEMPTS)
        .backoff(PAUSES)
        // Another attempt would read the same payload.
        .permanent(|error| matches!(error, BookError::NotDecoded(_)))
        .build()
}

/// Books an order, and publishes that it is paid. Both are committed with the record of the message, or none of them is.
pub(super) async fn book_order(
    tx: &mut Transaction<'static, Db>,
    message: Message<'_>,
    run: Execution,
) -> Result<(), BookError> {
    let order: Order = serde_json::from_slice(message.payload)?;
    let book = query("INSERT INTO bookings (order_id, cents, attempt) VALUES ($1, $2, $3)");
    book.bind(&order.id).bind(order.cents).bind(i64::from(run.attempt())).execute(&mut **tx).await?;

    let payload = serde_json::to_vec(&OrderPaid { order_id: order.id, cents: order.cents })?;
    Outbox::new().publish(tx, Outgoing { label: Some("order-paid"), ..Outgoing::new(PAYMENTS, &payload) }).await?;

    // After the writes: what this attempt wrote is rolled back.
    match order.trouble {
        Some(Trouble::FailsAlways) => Err(BookError::Unavailable),
        Some(Trouble::FailsOnce) if run.attempt() == 1 => Err(BookError::Unavailable),
        Some(Trouble::FailsOnce) | None => Ok(()),
    }
}

/// Books what followed from an order. The outbox may send it twice, always with the same id.
pub(super) async fn book_payment(
    tx: &mut Transaction<'static, Db>,
    message: Message<'_>,
    run: Execution,
) -> Result<(), BookError> {
    let paid: OrderPaid = serde_json::from_slice(message.payload)?;
    let book = query("INSERT INTO payments (order_id, cents, attempt) VALUES ($1, $2, $3)");
    book.bind(paid.order_id).bind(paid.cents).bind(i64::from(run.attempt())).execute(&mut **tx).await?;
    Ok(())
}

/// The reason why a message is not booked. Its text is kept with the dead letter.
#[derive(Debug)]
pub(super) enum BookError {
    NotDecoded(serde_json::Error),
    /// Something that the handler needs does not work now.
    Unavailable,
    Database(sqlx::Error),
    Outbox(idempotent_runtime::Error),
}

impl fmt::Display for BookError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotDecoded(error) => write!(f, "the payload cannot be decoded: {error}"),
            Self::Unavailable => f.write_str("the ledger takes no bookings now"),
            Self::Database(error) => write!(f, "the database failed: {error}"),
            Self::Outbox(error) => write!(f, "the outbox failed: {error}"),
        }
    }
}

impl From<serde_json::Error> for BookError {
    fn from(error: serde_json::Error) -> Self {
        Self::NotDecoded(error)
    }
}

impl From<sqlx::Error> for BookError {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error)
    }
}

impl From<idempotent_runtime::Error> for BookError {
    fn from(error: idempotent_runtime::Error) -> Self {
        Self::Outbox(error)
    }
}
