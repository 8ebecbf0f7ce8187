//! 10. Work each message off once, and send messages with an effect.
//!
//! A broker delivers a message at least once: it sends it again when a consumer dies, a connection breaks, or an acknowledgement is lost. Two
//! parts make "at least once" harmless.
//!
//! | part | feature | it |
//! |---|---|---|
//! | inbox (`consumer::Inbox`) | `consumer` | claims a message by its id, runs the handler, commits, and acknowledges after that |
//! | outbox (`outbox::Outbox`, `outbox::Relay`) | `outbox` | writes a message in your transaction, and hands it to the broker after the commit |
//!
//! # The inbox
//!
//! ```no_run
//! # #[cfg(all(feature = "consumer", feature = "postgres"))] mod example {
//! # use std::{error::Error, time::Duration};
//! # use sqlx::PgPool;
//! use idempotent_runtime::{Backoff, Idempotency, consumer::{Delivery, Inbox}};
//!
//! async fn one<D: Delivery>(idempotency: Idempotency, pool: &PgPool, delivery: D) -> Result<(), Box<dyn Error>> {
//!     // The group and the handler. Both are in the key of each message: do not rename them.
//!     let inbox = Inbox::<sqlx::Error>::builder(idempotency, "billing", "book-payment")
//!         .max_attempts(10)
//!         .backoff(Backoff::exponential(Duration::from_secs(1), Duration::from_secs(300)))
//!         .build()?;
//!     let settled = inbox.handle_in(pool, delivery, |tx, message, _run| Box::pin(async move {
//!         let book = sqlx::query("INSERT INTO payment (event, body) VALUES ($1, $2)");
//!         book.bind(message.id).bind(message.payload).execute(&mut **tx.0).await.map(drop)
//!     })).await;
//!     println!("{settled:?}");
//!     Ok(())
//! }
//! # }
//! # fn main() {}
//! ```
//!
//! `run` and `run_in` do the same for a stream of deliveries, with limits, partitions and a shutdown.
//!
//! Know these five things before production:
//!
//! 1. **The id is the producer's.** The broker's own numbers differ between two sendings. A message without an id becomes a dead letter.
//! 2. **Exactly once is for rows** in the store's own database (`handle_in`, `run_in`). Elsewhere it is at least once, with a
//!    [`child_key`](crate::Execution::child_key) to pass on.
//! 3. **The `ttl` is longer than the broker's retention.** A message that comes after its record has expired runs again.
//! 4. **A killed run counts as an attempt**, also when a deployment kills it. Let the consumer drain: see [running it](super::running_it).
//! 5. **Somebody reads the dead letters.** PostgreSQL and SQLite keep them in a table. `Inbox::dead_letters` lists them,
//!    `replay` has one worked off again, `discard` removes one.
//!
//! The page of the module `consumer` has the order of steps, each crash, and the settings of RabbitMQ and Redis Streams. The program `inbox` of the
//! examples kills its consumers, and counts the effects.
//!
//! # The outbox
//!
//! A handler that commits rows and then publishes can be killed in between: the message is lost. If it publishes first, the message may tell of
//! what was rolled back. So write the message into the database, in the same transaction as the rows. A relay publishes it afterwards.
//!
//! - The message is published if the transaction is committed, and only then.
//! - It may reach the broker twice, with one id: an inbox at the other end takes it once.
//! - Messages of one key keep their order. A message that fails holds up its key, and no other.
//! - `PublishError::Permanent` parks a message: `Outbox::replay` and `discard` are for operators.
//!
//! In a handler of an inbox, the transaction is the run's:
//!
//! ```no_run
//! # #[cfg(all(feature = "consumer", feature = "outbox", feature = "postgres"))] mod example {
//! # use sqlx::PgPool;
//! use idempotent_runtime::{consumer::{BoxError, Delivery, Inbox, Settled}, outbox::{Outbox, Outgoing}};
//!
//! async fn book<D: Delivery>(inbox: &Inbox<BoxError>, outbox: &Outbox, pool: &PgPool, delivery: D) -> Settled {
//!     inbox.handle_in(pool, delivery, |tx, message, _run| Box::pin(async move {
//!         let book = sqlx::query("INSERT INTO payment (event, body) VALUES ($1, $2)");
//!         book.bind(message.id).bind(message.payload).execute(&mut **tx.0).await?;
//!         let booked = Outgoing { label: Some("booked"), key: message.partition, ..Outgoing::new("bookings", message.payload) };
//!         outbox.publish(tx.0, booked).await?;
//!         Ok(())
//!     })).await
//! }
//! # }
//! # fn main() {}
//! ```
//!
//! Its relay sends the message on once the run is committed. Give each message of a handler a label of its own.
//!
//! The page of the module `outbox` has the publisher, the privileges, and the limits.
