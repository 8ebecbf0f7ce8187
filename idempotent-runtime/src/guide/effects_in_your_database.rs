//! 8. Commit your rows and the result in one transaction.
//!
//! If the effect of a function is rows in PostgreSQL or SQLite, it can happen exactly once. Keep the records in the same database, and
//! let the function write its rows in the transaction that also writes its record:
//!
//! ```no_run
//! # #[cfg(all(feature = "macros", feature = "postgres"))] mod example {
//! # #[derive(Debug)] enum PayError { Sql(sqlx::Error), Idempotency(Error) }
//! # impl From<sqlx::Error> for PayError { fn from(error: sqlx::Error) -> Self { Self::Sql(error) } }
//! # impl From<Error> for PayError { fn from(error: Error) -> Self { Self::Idempotency(error) } }
//! use idempotent_runtime::{Error, idempotent, in_transaction};
//! use sqlx::{PgPool, Postgres, Transaction};
//!
//! #[idempotent(name = "accounts.deposit", key = id, ttl = "30d", transaction = tx)]
//! async fn deposit(tx: &mut Transaction<'_, Postgres>, id: &str, account: i64, cents: i64) -> Result<i64, PayError> {
//!     let add = sqlx::query_scalar("UPDATE accounts SET cents = cents + $1 WHERE id = $2 RETURNING cents");
//!     Ok(add.bind(cents).bind(account).fetch_one(&mut **tx).await?)
//! }
//!
//! async fn handle(pool: &PgPool, id: &str) -> Result<i64, PayError> {
//!     in_transaction(pool, |tx| Box::pin(deposit(tx.0, id, 17, 500))).await
//! }
//! # }
//! # fn main() {}
//! ```
//!
//! [`in_transaction`](crate::in_transaction) begins, calls, commits, and begins anew where the database says so. The installed store, or that
//! of `store = …`, has to be in the pool's database: `Idempotency::connect("postgres://app@db/shop")` beside
//! `PgPool::connect("postgres://app@db/shop")`. With SQLite, `Transaction<'_, Sqlite>` and the URL of the file, `sqlite://shop.db`, for both.
//!
//! # Three promises
//!
//! - **Both or neither.** The rows that the body wrote are there if the record is, and only then, also after `kill -9` of
//!   the process or of the server.
//! - **No result before the commit.** A duplicate waits for the other transaction. It never sees a result that is not committed.
//! - **A lost reply to `COMMIT` is no second effect.** The same call, made again, finds out: it gets the committed result, or runs where
//!   nothing was committed. `in_transaction` does this by itself.
//!
//! They end at the database's edge. A mail that the body sends is sent again if the transaction is rolled back and begun anew. Write such a
//! thing into an [outbox](super::consumers_and_outbox) instead. And they rest on what the server keeps: see [stores](super::stores).
//!
//! # Three ways to write it
//!
//! | | the claim | choose it |
//! |---|---|---|
//! | `transaction = tx`, or [`Call::in_transaction`](crate::Call::in_transaction) | is in your transaction; a duplicate waits for its lock | for short bodies |
//! | [`Call::commit`](crate::Call::commit) | is committed before the transaction begins; attempts are counted, duplicates wait without a connection | for longer bodies, `max_attempts`, `retry_after` |
//! | an [`Inbox`](super::consumers_and_outbox) | as `commit` | for messages of a broker |
//!
//! `commit`, without the attribute:
//!
//! ```no_run
//! # #[derive(Debug)] enum PayError { Sql, Idempotency }
//! # impl From<idempotent_runtime::Error> for PayError { fn from(_: idempotent_runtime::Error) -> Self { Self::Idempotency } }
//! # #[cfg(feature = "sqlite")] mod example {
//! # use super::PayError;
//! # impl From<sqlx::Error> for PayError { fn from(_: sqlx::Error) -> Self { Self::Sql } }
//! use idempotent_runtime::Idempotency;
//!
//! async fn deposit(store: &Idempotency, pool: &sqlx::SqlitePool, id: &str, cents: i64) -> Result<i64, PayError> {
//!     let call = store.call("accounts.deposit").key(id).arguments(&cents);
//!     call.commit(pool, |tx| Box::pin(async move {
//!         let add = sqlx::query_scalar("UPDATE account SET cents = cents + ?1 RETURNING cents");
//!         Ok(add.bind(cents).fetch_one(&mut **tx.0).await?)
//!     })).await
//! }
//! # }
//! # fn main() {}
//! ```
//!
//! # Errors
//!
//! An `Err` rolls back what the body wrote, and frees the key. An `Err` that is *kept* (`errors = keep`) is a record without rows. It needs the
//! commit, too: `in_transaction` commits it. With a transaction of your own, commit before you pass the error on.
//!
//! # Mind
//!
//! - Call one function in a transaction. Write all that belongs to the effect inside it.
//! - The body neither commits nor rolls back. Savepoints are allowed.
//! - `lease`, `abandoned`, `max_attempts`, `retry_after`, `detach` and [`step`](crate::step) are refused with `transaction = tx`: nothing can be
//!   half done there.
//! - On PostgreSQL, a transaction at REPEATABLE READ or SERIALIZABLE may get a retryable [`Error::Store`](crate::Error::Store) where READ
//!   COMMITTED would wait.
//! - On SQLite, a file has one writer: begin with `BEGIN IMMEDIATE`, as `in_transaction` does.
//!
//! The full rules are with the [attribute](macro@crate::idempotent#transactions), and on the store's page, in `store::postgres` and `store::sqlite`.
