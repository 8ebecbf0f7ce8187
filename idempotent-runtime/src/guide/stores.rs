//! 6. Choose a store by what it loses and what it costs.
//!
//! A record that is lost is a second run. So the question is not which store is fastest, but which loss you can bear.
//!
//! | your case | store |
//! |---|---|
//! | the effect is rows in PostgreSQL | PostgreSQL, that same database: record and rows are [one commit](super::effects_in_your_database) |
//! | the effect is elsewhere, and a second one costs money | PostgreSQL; or Redis with one primary and `appendfsync always` |
//! | a second effect now and then does no harm, or the other side takes a [`child_key`](crate::Execution::child_key) | Redis |
//! | all processes are on one machine | a SQLite file on its disk |
//! | tests; one process, whose restart may forget everything | the embedded store |
//!
//! | store | loses records | shared by | a full store |
//! |---|---|---|---|
//! | embedded ([`memory`](crate::store::memory)) | when the process ends | the tasks of one process | refuses new keys, evicts nothing |
//! | [Redis](crate::store::redis), Valkey | in a failover; in a crash of the server, unless each write is synced | all that reach it | refuses new keys; a server that evicts is refused at `connect` |
//! | [PostgreSQL](crate::store::postgres) | in a failover to an asynchronous standby | all that reach it | as the database |
//! | [SQLite](crate::store::sqlite) | with its file; not in a crash or a power cut | the processes of one machine | refuses new keys, still answers repeats |
//!
//! On SQLite, a write transaction keeps all others from writing, and so from renewing their leases: keep each one on that file, of this
//! program or another, shorter than two thirds of the shortest lease. [Why](crate::store::sqlite#how-long-a-transaction-may-be).
//!
//! Each store's page says what its promises rest on, which settings it refuses, which privileges it needs, and how it takes certificates.
//!
//! # What it costs
//!
//! | call | round trips |
//! |---|---|
//! | a repeat | 1; none with the embedded store, or while the [local cache](crate::IdempotencyBuilder::local_cache) (feature `local-cache`) has the result |
//! | a first call | 2: claim, and end |
//! | each [step](crate::step) | 1 |
//! | a renewal | 1 for each third of the `lease`, once the body has to wait |
//!
//! A record has the key, the result as JSON, and little else; with [`record_arguments`](crate::IdempotencyBuilder::record_arguments), also
//! the arguments. The embedded store takes about 390 bytes a record if key and result have up to 246 bytes together. A million calls a day
//! that are kept for 30 days are 30 million records: return an id, and not the whole document. A result above 1 MiB is [not
//! kept](crate::IdempotencyBuilder::max_result_len). `FIGURES.md`, in the repository, has measurements.
//!
//! The SQL stores remove expired rows in passing, and Redis does so itself. Nothing has to be started.
//!
//! # Connect
//!
//! ```no_run
//! # #[cfg(feature = "memory")] mod example {
//! use idempotent_runtime::{Idempotency, install};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # pub async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // `postgres://…`, `redis://…`, `sqlite://…` or `memory:`, of which the features are compiled in.
//! let url = std::env::var("IDEMPOTENCY_URL")?;
//! install(Idempotency::connect(&url).await?)?; // fails here, and not in the first call
//! # Ok(()) }
//! # }
//! # fn main() {}
//! ```
//!
//! Take the URL from the environment in production. If it is missing there, stop: a service that falls back to the embedded store runs
//! each duplicate once per process. This is why calls are [`NotInstalled`](crate::Error::NotInstalled) where a shared store is compiled in
//! and nothing is installed.
//!
//! To share a pool that you have, build the store with it: [`PostgresStore::builder`](crate::store::postgres::PostgresStore::builder),
//! [`SqliteStore::builder`](crate::store::sqlite::SqliteStore::builder).
//!
//! # The store is out of reach
//!
//! Calls fail with [`Error::Store`](crate::Error::Store), and no body runs. A handle that was built with
//! [`OnStoreFailure::RunUnprotected`](crate::OnStoreFailure::RunUnprotected) runs the body all the same: duplicates run too. Choose this
//! only for what does no harm twice.
//!
//! # From one store to another
//!
//! Records do not move. A repeat of a call whose record is in the old store runs again in the new one. Stop the callers, wait until no
//! retry can come, and switch then; or switch operation by operation, with `store = …`, each at a time without retries. [Coming
//! from](super::coming_from) has the same problem, and its way through.
//!
//! For a store of your own, [`store`](crate::store) has the contract, and [`testing`](crate::testing) the suite that checks it.
