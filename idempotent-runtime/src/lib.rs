//! Run an async function once per key and replay its stored result, whichever process a repeat lands on.
//!
//! ```
//! use idempotent_runtime::{Error, Idempotency, idempotent};
//!
//! // The name is part of every stored key: moving or renaming the function must not forget its records.
//! #[idempotent(name = "payments.charge", key = order_id, ttl = "24h")]
//! async fn charge(order_id: &str, amount_cents: u64) -> Result<String, Error> {
//!     Ok(format!("charged {amount_cents} for {order_id}"))
//! }
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // At start-up, once. A service connects to a shared store: `Idempotency::connect("redis://…").await?`.
//! idempotent_runtime::install(Idempotency::memory())?;
//!
//! let receipt = charge("order-17", 4_200).await?;
//! assert_eq!(charge("order-17", 4_200).await?, receipt); // replayed, not run again
//! assert!(matches!(charge("order-17", 9_999).await, Err(Error::Mismatch { .. }))); // same key, other request
//! # Ok(()) }
//! ```
//!
//! # Where to look
//!
//! - [`guide`]: chapters for a first reader, from five minutes to running it.
//! - [`macro@idempotent`]: the attribute, its options and rules.
//! - [`install`] and [`Idempotency::connect`]: one line at start-up that makes the store a shared one. Without it, calls are
//!   [`Error::NotInstalled`]; only where no shared store is compiled in is the embedded store used instead.
//! - [`Idempotency`]: calls without the attribute, limits, and access for operators.
//! - [`Error`]: the answers of a call other than the body's own result, and what to do then.
//! - [`Execution::current`]: inside a body, its key, attempt and fence, and keys to pass on to other systems.
//! - [`step`]: recovery points, so that the next attempt of a function goes on where the last one was killed.
//! - [`Operation::max_attempts`], [`Operation::retry_after`], [`Reconciled`]: how often a key is run, when, and whether an earlier
//!   run that vanished has happened.
//! - [`operator`]: which records there are, and what the next call of a key would get and why.
//! - `admin`, with the feature of this name: the same as a page in your own service.
//! - [`with_disposition`]: how a call came to its answer.
//! - `tower` and `webhooks`, with the features of these names: a layer for HTTP services, and signatures of webhooks.
//! - [`store`]: the contract of a store, for authors of stores; `testing` has its conformance suite.
//! - [`Fingerprint`]: the hash of the arguments, specified byte by byte.
//!
//! # Requirements
//!
//! Calls run on Tokio, with its timers enabled. The embedded store works without a runtime as long as no call has to wait;
//! a call that has to panics there, since nothing could renew its claim.
//!
//! # Features
//!
//! | feature | default | |
//! |---|---|---|
//! | `macros` | yes | the attribute |
//! | `memory` | yes | the embedded store |
//! | `redis` | | Redis 7.0 or later and Valkey |
//! | `redis-tls` | | TLS for it |
//! | `postgres` | | PostgreSQL 14 or later; needs Rust 1.94 |
//! | `postgres-tls` | | TLS for it |
//! | `sqlite` | | a SQLite file; needs Rust 1.94 |
//! | `local-cache` | | a cache of finished results in this process: `IdempotencyBuilder::local_cache` |
//! | `tower` | | [`tower`]: a layer for HTTP services (axum, hyper) that takes an `Idempotency-Key` |
//! | `axum` | | `tower`, with the key as an extractor and [`Error`] as a response |
//! | `admin` | | [`admin`]: a page for operators, to be nested in an axum router |
//! | `consumer` | | [`consumer`]: works each message of a broker off once |
//! | `outbox` | | [`outbox`]: messages that are committed with an effect, and a relay to a broker; with `postgres` or `sqlite` |
//! | `webhooks` | | [`webhooks`]: signatures of Standard Webhooks, Stripe, GitHub and Shopify |
//! | `metrics` | | counters through the `metrics` facade |
//! | `testing` | | the conformance suite, a store that fails on demand, a clock set by hand |
//!
//! # Events and counters
//!
//! Every answer and every fault is a `tracing` event, and with the feature `metrics` a counter. Keys, arguments and
//! results are in neither. Events about a record have its `key_digest` ([`KeyDigest`](store::KeyDigest)), as has the span
//! `idempotent.run` around each body, at the level of info; `idempotent show --digest` finds the record of one.
//!
//! | event | level | counter |
//! |---|---|---|
//! | a call was answered, with its disposition | debug; info for `took-over` | `idempotent_calls_total{operation,disposition}` |
//! | a call was refused, with the error's code | debug for `in-flight`, `suspended` and `claim-lost`, error for `store`, `undecodable` and `result-not-kept`, else warn | the same, with `reason` |
//! | a body's claim was lost, its lease lapsed | error | `idempotent_claims_lost_total{operation}` |
//! | a run ended without an outcome | warn | `idempotent_runs_abandoned_total{operation}` |
//! | a body ran and its outcome is not on record | error | `idempotent_outcomes_not_recorded_total{operation}` |
//! | a result is not kept | warn | |
//! | the value of a step is not kept | error | `idempotent_steps_not_kept_total{operation}` |
//! | a run did not ask for steps that an earlier attempt had recorded | error | `idempotent_steps_not_asked_for_total{operation}` |
//! | a record of an embedded store is held: it has no end | no event | the gauge `idempotent_memory_held_records` |
//! | a body runs without protection | warn | |
//! | a delivery was settled, with what became of it | debug; warn where its message is given up, with the reason | `idempotent_deliveries_total{operation,settled,reason}` |
//! | a broker did not take what it was told | debug | `idempotent_deliveries_not_settled_total{operation,settled}` |
//! | a handler begins | debug | `idempotent_handlers_total{operation}`, and the gauge `idempotent_handlers_running{operation}` |
//! | the store failed while messages were worked off | error, once a second | `idempotent_deliveries_store_failed_total{operation}` |
//! | an operator has resolved a record | info | `idempotent_records_resolved_total{operation}` |
//! | expired records could not be removed | warn | |
//! | a broker did not confirm messages, or confirmed some | debug, trace | `idempotent_outbox_messages_total{table,result}` |
//! | a broker will never take messages, which are parked | error | the same, with `parked` |
//! | the age of the oldest message in an outbox | trace | the gauge `idempotent_outbox_oldest_seconds{table}` |
//! | a relay has lost its lease; the database failed it | warn; error, once a second | |
//! | a server that was connected to may forget records: Redis without an append-only file, PostgreSQL with `fsync=off` | warn | |

#![cfg_attr(docsrs, feature(doc_cfg))]

#[doc(hidden)]
#[path = "private.rs"]
pub mod __private;
#[cfg(feature = "admin")]
pub mod admin;
pub mod bounds;
mod buffer;
mod call;
mod codec;
#[cfg(feature = "consumer")]
pub mod consumer;
mod disposition;
mod engine;
mod error;
mod execution;
mod functions;
#[cfg(doc)]
pub mod guide;
mod hex;
mod idempotency;
mod install;
mod lock;
mod operation;
pub mod operator;
#[cfg(all(feature = "outbox", any(feature = "postgres", feature = "sqlite")))]
pub mod outbox;
mod readable;
mod reconcile;
mod request;
mod step;
pub mod store;
mod sweeper;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
#[cfg(feature = "tower")]
pub mod tower;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod transaction;
#[cfg(feature = "webhooks")]
pub mod webhooks;

pub use call::{Call, CallBuilder, DetachedCall, ReconciledCall, TransactionCall};
pub use disposition::with_disposition;
pub use engine::{disposition::Disposition, shared::OnStoreFailure};
pub use error::{Error, NameConflict, OperationError, SetupError, StepError, Undecodable};
pub use execution::Execution;
pub use idempotency::{Idempotency, IdempotencyBuilder};
#[cfg(feature = "macros")]
pub use idempotent_macros::idempotent;
pub use install::{install, installed};
pub use operation::{Backoff, ErrorPolicy, KeepErrors, KeepErrorsIf, OnAbandoned, Operation, ReleaseErrors};
pub use operator::Operator;
pub use reconcile::Reconciled;
pub use request::{
    error::{ArgumentsError, KeyError},
    fingerprint::Fingerprint,
    key,
};
pub use step::step;
pub use store::{NotKept, Outcome, Record, RecordKey, State, Store, StoreError, StoreErrorKind};
pub use sweeper::Sweeper;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
pub use transaction::{InTransaction, TransactionDatabase, in_transaction};
