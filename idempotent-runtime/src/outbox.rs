//! Messages that are committed with an effect, and a relay that hands them to a broker.
//!
//! A handler that writes to its database and then publishes to a broker can be killed in between. So it writes the message
//! into a table, in the same transaction ([`Outbox::publish`]); a [`Relay`] reads the table, hands the messages to your
//! [`Publisher`], and removes those that the broker has confirmed.
//!
//! ```no_run
//! # #[cfg(feature = "postgres")] mod example {
//! use idempotent_runtime::outbox::{Outbox, OutboxMessage, Outgoing, PublishError, Publisher, Relay};
//! use sqlx::PgPool;
//!
//! /// Your broker's client.
//! struct Broker;
//!
//! impl Publisher for Broker {
//!     async fn publish(&self, batch: &[OutboxMessage]) -> Vec<Result<(), PublishError>> {
//!         // Send all of them, with their ids as the broker's message ids, and then wait for each confirmation.
//!         batch.iter().map(|_| Ok(())).collect()
//!     }
//! }
//!
//! async fn pay(pool: &PgPool, outbox: &Outbox) -> Result<(), Box<dyn std::error::Error>> {
//!     let mut tx = pool.begin().await?;
//!     // Locked, so that nobody else publishes under this key before the commit.
//!     sqlx::query("UPDATE orders SET paid = true WHERE id = 17").execute(&mut *tx).await?;
//!     let message = Outgoing { label: Some("order-paid"), key: Some("order-17"), ..Outgoing::new("orders", b"{}") };
//!     outbox.publish(&mut tx, message).await?;
//!     tx.commit().await?;
//!     Ok(())
//! }
//!
//! async fn relay(pool: PgPool) {
//!     Relay::new(pool, Broker).run(std::future::pending()).await;
//! }
//! # }
//! # fn main() {}
//! ```
//!
//! # What is promised, and what is not
//!
//! - **A message is published if its transaction is committed, and only then.** The table is `idempotent_records_outbox`, in the
//!   store's schema, made by the store's `migrate`.
//! - **An outbox is of one service.** A relay hands all messages of its table to its own broker. Two services in one database need a table
//!   each: [`Outbox::table`] and [`Relay::table`].
//! - **It reaches the broker at least once.** A relay that is killed between the broker's confirmation and the row's removal leaves it
//!   to the next one, which publishes it again. No outbox can publish exactly once: let the next consumer be an inbox (the feature
//!   `consumer`), with the message's id as its key.
//! - **Its id is stable.** All deliveries of a message have one id. So have the messages of two attempts of one run: a handler
//!   may commit a message in a transaction of its own and be killed before its run has ended; the second attempt then publishes under the
//!   same id. If the row is still there, there is one. If it was relayed meanwhile, the message goes to the broker once more, and the next
//!   inbox knows it.
//! - **A [label](Outgoing::label) makes that certain.** Without one, equal messages of a run are numbered, and one that was rolled back
//!   gives its number back. Whether it was cannot always be found out: where the future of [`publish`](Outbox::publish) was dropped,
//!   where its transaction does not end for 100 ms, and on SQLite, where another one's row had its number and is gone. The message then
//!   has another id in the next attempt. No message is lost by that.
//! - **Messages of one [key](Outgoing::key) arrive in the order in which they were inserted**, whatever their topics, as far as the
//!   writers of the key exclude each other: lock the row that the key stands for before you publish. What arrives more than once
//!   counts as of the first time. Messages without a key have no order.
//! - **One that fails holds up its key, and no other.** It is tried again for ever, with a growing pause. Only
//!   [`PublishError::Permanent`] takes a message out: it is *parked*, with the error's text, until an operator
//!   [replays](Outbox::replay) or [discards](Outbox::discard) it. Later messages of its key go on.
//! - **One relay is at work**, by a lease on the database's clock. One that has lost it stops at once. Its last batch may reach the broker
//!   all the same, as duplicates.
//! - **An idle relay looks every 50 to 100 ms.** A commit by [`Call::commit`](crate::Call::commit), by
//!   [`in_transaction`](crate::in_transaction) or by an inbox in its own process wakes it at once. Nothing is sent by `NOTIFY`, which makes
//!   PostgreSQL's commits queue up.
//!
//! It works in any transaction: also in that of an HTTP handler which has no record.
//!
//! # Privileges
//!
//! On PostgreSQL, a role that publishes needs `SELECT`, `INSERT` and `UPDATE` on `idempotent_records_outbox`; that of a relay or of an operator
//! `SELECT`, `UPDATE` and `DELETE`, and for the relay `SELECT`, `INSERT`, `UPDATE` and `DELETE` on `idempotent_records_relay`.
//!
//! # Limits
//!
//! A payload has up to 1 MiB, headers up to 64 KiB, topic and key up to 1,024 bytes. A relay has up to six batches in memory, and up to
//! 28 where many keys have long queues. A key with
//! a very long queue is published at one message a batch, and while it waits its rows are passed over in each reading. While more than
//! 10,000 keys fail, no others are tried. On SQLite, a publisher's transaction writes: begin it with `BEGIN IMMEDIATE`.

mod id;
mod outgoing;
mod publish;
mod publisher;
mod relay;
mod rows;
mod wake;

pub(crate) use id::Publications;
pub use outgoing::{OutboxMessage, Outgoing};
pub use publish::Outbox;
pub use publisher::{BoxError, PublishError, Publisher};
pub use relay::Relay;
pub use rows::{OutboxDatabase, Parked};
pub(crate) use wake::committed;

use crate::store::{StoreError, StoreErrorKind};

/// The refusal of a message whose id another one has.
const CONFLICT: StoreError = StoreError::new(
    StoreErrorKind::Refused,
    "the run has published another message under the same label: nothing of this transaction can be committed",
);
