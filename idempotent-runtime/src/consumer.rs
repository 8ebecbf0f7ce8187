//! Message consumers: each message of a broker is worked off once (feature `consumer`).
//!
//! Brokers deliver a message again when a consumer dies, a connection breaks, or an acknowledgement is lost. An [`Inbox`] keeps a
//! record of each message, by the id that its producer gave it, and runs a handler for a message that has none:
//!
//! ```no_run
//! # #[cfg(feature = "postgres")] mod example {
//! # use idempotent_runtime::consumer::Delivery;
//! use std::time::Duration;
//! use idempotent_runtime::{Backoff, Idempotency, consumer::{Inbox, Limits}};
//! use sqlx::PgPool;
//!
//! # async fn consume<D: Delivery>(deliveries: impl futures_core::Stream<Item = D>) -> Result<(), Box<dyn std::error::Error>> {
//! let url = "postgres://app@localhost/shop";
//! let (idempotency, pool) = (Idempotency::connect(url).await?, PgPool::connect(url).await?);
//! // The consumer group and the handler: both are in the key of each message.
//! let inbox = Inbox::builder(idempotency, "billing", "book-payment")
//!     .max_attempts(10)
//!     .backoff(Backoff::exponential(Duration::from_secs(1), Duration::from_secs(300)))
//!     .permanent(|error: &sqlx::Error| matches!(error, sqlx::Error::Decode(_)))
//!     .build()?;
//! let shutdown = async { /* a signal */ };
//! let summary = inbox.run_in(&pool, deliveries, Limits::new(16), shutdown, |tx, message, _run| {
//!     Box::pin(async move {
//!         let book = sqlx::query("INSERT INTO payment (event, body) VALUES ($1, $2)");
//!         book.bind(message.id).bind(message.payload).execute(&mut **tx.0).await.map(drop)
//!     })
//! });
//! println!("{:?}", summary.await);
//! # Ok(()) }
//! # }
//! ```
//!
//! | | effects | a crash |
//! |---|---|---|
//! | [`handle_in`](Inbox::handle_in), [`run_in`](Inbox::run_in) | in the store's database, PostgreSQL or SQLite: exactly once | leaves neither effect nor record |
//! | [`handle`](Inbox::handle), [`run`](Inbox::run) | anywhere, on every store: at least once | the handler runs again, with the same [`child_key`](crate::Execution::child_key) and its [steps](crate::step) |
//!
//! `handle` and `handle_in` settle one delivery, for consumers that have a loop of their own.
//!
//! # The order of steps
//!
//! ```text
//!  claim ─▶ [BEGIN ─▶ handler ─▶ end of the run ─▶ COMMIT] ─▶ acknowledge        in brackets: handle_in, run_in
//!    │                   │                            │
//!    │                   ├─ Err ─▶ ROLLBACK, the record waits for its backoff ─▶ retry
//!    │                   ├─ Err, permanent or the last attempt ─▶ ROLLBACK, record and dead letter in one step ─▶ reject
//!    │                   └─ panic, dropped ─▶ ROLLBACK, the run has vanished ─▶ retry
//!    ├─ worked off before ─▶ acknowledge        ├─ given up before ─▶ reject
//!    ├─ running elsewhere ─▶ wait, then retry   ├─ too early ─▶ retry
//!    ├─ another payload under its id ─▶ a dead letter, the original is not touched ─▶ reject
//!    └─ the store is out of reach ─▶ retry
//! ```
//!
//! The claim is committed before the handler begins. So attempts are counted although a run is rolled back or its process is
//! killed, and a duplicate waits without a connection. The end of the run is the last statement of the handler's transaction, where a
//! late owner is refused: what a process wrote that was stopped past its lease is rolled back.
//!
//! | what happens | what becomes of the message |
//! |---|---|
//! | killed before the claim | delivered again, first attempt |
//! | killed after the claim, before the commit | its lease lapses, then the next attempt |
//! | killed after the commit, before the acknowledgement | a duplicate: acknowledged, not run |
//! | the acknowledgement fails | the same |
//! | the commit is not answered | the record's lock tells what became of it; if nobody can say, it is not acknowledged |
//! | stopped past its lease, and then goes on | its transaction fails; the other run's result stands |
//! | the handler ends its transaction by itself | refused, and the run counts as vanished |
//!
//! # Attempts, and messages that kill
//!
//! A message is run [`max_attempts`](InboxBuilder::max_attempts) times at most, on the store's count and clock, whatever the number
//! of consumers. A kill counts, also that of a deployment; what a drain breaks off does not. A process that dies uses up an
//! attempt of each message that it was working off. So a message of which two runs have vanished runs alone in its process from
//! then on, as does one before its last attempt, and the innocent are not given up with the one that kills. With a limit of 1
//! nothing protects them.
//!
//! # Dead letters
//!
//! PostgreSQL and SQLite keep the letters of messages that are given up in `idempotent_records_dead`, written in the step that ends
//! the record. The message is rejected after that, and a later delivery of it is rejected again. [`Inbox::replay`] has a running
//! consumer work one off once more, as the first attempt, outside of the order of its partition; [`Inbox::discard`] removes one. The text
//! of a handler's error is kept, that of a panic is not. With other stores, dead letters are the
//! broker's, and its record is kept for one lease after the rejection: a message that an operator sends again afterwards runs as the
//! first attempt.
//!
//! # Brokers
//!
//! A broker is connected by an implementation of [`Delivery`]. The examples of the
//! repository have two to copy: `examples/src/rabbitmq.rs` for RabbitMQ (`lapin`) and `examples/src/redis_streams.rs` for Redis Streams.
//!
//! | any broker | why |
//! |---|---|
//! | an id from the producer (`message_id` on RabbitMQ, a field on Redis) | without it a message is a dead letter; the broker's own numbers differ between two sendings of one message |
//! | prefetch: what runs, and what waits for its backoff | what is taken is held until it is settled |
//! | a stream of deliveries that connects again, and does not end with its connection | what it has handed out is worked off to its end first, with all backoffs |
//! | retention at the broker below the inbox's [`ttl`](InboxBuilder::ttl) | a message that comes after its record has expired runs again |
//!
//! | RabbitMQ | why |
//! |---|---|
//! | a quorum queue; `x-delivery-limit` far above `max_attempts` | each return to the queue counts there, also of a delivery that was no attempt: at the limit the broker gives a message up that has hardly run |
//! | [`retry`](Delivery::retry) sleeps, and then sends `basic.nack` with `requeue` | RabbitMQ cannot delay: given back at once, a message goes round hundreds of times a second, and comes to the limit |
//! | `consumer_timeout` (30 minutes) above the longest handler and the longest backoff | the server closes the channel of a delivery that is not settled by then |
//! | acknowledge on the channel of the delivery; lapin's answer `false` is an error | a tag of an old channel names another delivery on a new one; `false` says that nothing was sent |
//! | in order: a queue with `x-single-active-consumer`, which only its declaration can set | one consumer at a time has its messages |
//! | in order: a consumer ends by closing its channel, and is not cancelled. lapin cancels it when its last clone is dropped: keep one until the channel is closed | cancelled, it keeps what it has until then; what is on its way to it goes back first, and the next one begins with what came later |
//!
//! | Redis Streams | why |
//! |---|---|
//! | `XAUTOCLAIM` with an idle time of a lease or more; append-only file | a shorter one hands a message out that is being worked off |
//! | never delete a consumer with pending entries | they are lost |
//!
//! # Order
//!
//! A broker that takes a message back changes its order. With a [partition](Message::partition), [`Inbox::run`] works the
//! messages of one off in the order in which they come, and tries a failing one again in place. The broker has to
//! deliver a partition to one consumer at a time, and its producer has to wait for the confirm of a message before it sends the next
//! one: a broker may refuse one, and take the next.
//!
//! # What is not promised
//!
//! - Effects elsewhere, exactly once: a crash after the effect looks like one before it. Pass a child key on, or record a step.
//! - Order across partitions, or without one.
//! - A message without an id, or with a new id each time it is sent, is not recognised.
//! - On SQLite, more than one handler of a file at a time: each has the file's write lock to its end. A process that is
//!   stopped there stops the file.

mod alone;
mod delivery;
mod handle;
mod inbox;
mod payload;
mod run;
mod settled;

pub use delivery::{BoxError, Delivery, Message};
pub use inbox::{Inbox, InboxBuilder};
pub use run::{Limits, Summary};
pub use settled::{Dead, Settled};

pub use crate::store::{DeadLetter, Replay};

#[cfg(all(test, feature = "sqlite"))]
mod tests {
    use super::*;

    fn is_send<T: Send>(_: T) {}

    /// As a task needs it, with a handler that borrows from around it.
    #[expect(dead_code, reason = "that it compiles is the test")]
    fn futures_are_send<D: Delivery>(
        inbox: &Inbox<std::io::Error>,
        idempotency: &crate::Idempotency,
        pool: &sqlx::SqlitePool,
        [first, second]: [D; 2],
        text: &str,
    ) {
        is_send(inbox.handle(first, async |message, run| {
            tokio::task::yield_now().await;
            let _ = (message.payload, run.child_key(text));
            Ok(())
        }));
        is_send(inbox.handle_in(pool, second, |tx, message, run| {
            Box::pin(async move {
                let _ = sqlx::query("SELECT 1").bind(text).execute(&mut **tx.0).await;
                let _ = (message.payload, run.child_key(text));
                Ok(())
            })
        }));
        is_send(idempotency.call("charge").key("key").commit(pool, |tx| {
            Box::pin(async move {
                let _ = sqlx::query("SELECT 1").bind(text).execute(&mut **tx.0).await;
                Ok::<_, crate::Error>(())
            })
        }));
    }
}
