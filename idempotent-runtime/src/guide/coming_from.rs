//! 14. Replace a cache, `SET NX`, or a table of your own, without a second run.
//!
//! The danger is the deploy. Old processes look into the old place, new ones into the new place. A retry that reaches the other
//! kind finds nothing, and runs again. A shorter form of the same: the new release does not know what the old one has done.
//!
//! # The rule: two releases that meet share a guard
//!
//! | release | asks the old guard | asks this library | meets |
//! |---|---|---|---|
//! | 0, today | yes | no | 1 |
//! | 1, the bridge | yes, first | yes, inside | 0 and 2 |
//! | 2 | no | yes | 1 |
//!
//! 1. Deploy release 1. Where the old guard says "done" or "running", answer as release 0 does, and do *not* call the library: it has no record of that.
//! 2. Wait until no process of release 0 runs, and then as long as a retry of a call that release 0 answered can come: see
//!    [how long](super::how_long). The old guard keeps its entries for at least as long. If it does not, retries run again today as well.
//! 3. Deploy release 2. Name, key and arguments stay as in release 1, and the `ttl` is at least the time of step 2.
//!
//! Going back is safe one release at a time, in the same way.
//!
//! ```
//! # #[cfg(all(feature = "macros", feature = "memory"))] mod example {
//! # struct OldGuard;
//! # impl OldGuard { async fn claim(&self, _: &str) -> bool { true } async fn free(&self, _: &str) {} }
//! use idempotent_runtime::{Error, idempotent};
//!
//! /// Release 1. In release 2, callers call `charge`.
//! async fn bridge(old: &OldGuard, order_id: &str, cents: u64) -> Result<Option<String>, Error> {
//!     if !old.claim(order_id).await { return Ok(None) } // release 0 answers so: seen before
//!     let answer = charge(order_id, cents).await;
//!     if answer.is_err() { old.free(order_id).await } // only if release 0 does so, too
//!     answer.map(Some)
//! }
//!
//! #[idempotent(name = "payments.charge", key = order_id, ttl = "30d")]
//! async fn charge(order_id: &str, cents: u64) -> Result<String, Error> {
//!     Ok(format!("charged {cents} for {order_id}"))
//! }
//! # }
//! # fn main() {}
//! ```
//!
//! Release 1 is no better than release 0: a kill leaves the old guard as it does today. Keep it for no longer than step 2 asks.
//!
//! **Without a bridge**, stop: take no calls, wait until all runs have ended and no retry can come any more, then start the new release. For
//! a queue this is often easy: it keeps the messages meanwhile.
//!
//! # What the old entries mean
//!
//! | from | an entry means | it does not say | so |
//! |---|---|---|---|
//! | a cache in the process (`cached`, `moka`) | this process has returned this value lately | anything about other processes, or after a restart | there is nothing to carry over: any deploy forgets them. Two processes already run a duplicate twice |
//! | `SET key … NX EX n` | somebody *began*, less than `n` seconds ago | whether it ended, with which result, for which arguments | treat it as running, and do not run |
//! | Powertools' record `COMPLETED` | it was done, and this is the response | whether the rest of the payload was the same, unless payload validation is on | answer with it |
//! | Powertools' record `INPROGRESS` | somebody began | whether it ended | treat it as running |
//! | a row of your table | what your code writes, and when: before the effect "began", after it "done" | | read the code that writes it |
//!
//! # What changes for callers
//!
//! - **`cached`**: [its documentation](https://docs.rs/cached/0.26.2/cached/) says that concurrent first calls each execute fully unless `sync_writes` is set. Here
//!   one runs. A cache may forget at any time, and here a forgotten entry is a second effect: choose the `ttl` anew. Keep the cache for what only reads.
//! - **`SET NX`**: [one time](https://redis.io/commands/set) is both the lock's and the memory's. Here they are two: `lease`, renewed while the body
//!   runs, and `ttl`. Duplicates used to be refused; now they wait, and get the result. Other arguments under one key are refused. The keys of
//!   this library begin with `idempotent:`, unless the store's builder says otherwise: yours must not.
//! - **Powertools for AWS Lambda**: its records [expire after an hour](https://docs.aws.amazon.com/powertools/typescript/latest/api/types/_aws-lambda-powertools_idempotency.types.IdempotencyConfigOptions.html)
//!   by default, and here after a day. Its keys are hashes of a payload, and its store is another one: a bridge would have to compute and write them as
//!   Powertools does. Rather stop the event source, let it drain, and start the new service on it. Choose `errors` anew: here an `Err` frees the key.
//! - **A table in PostgreSQL**: keep its unique constraint as the bridge, in the same transaction.
//!
//! ```no_run
//! # #[cfg(all(feature = "macros", feature = "postgres"))] mod example {
//! # #[derive(Debug)] enum PayError { Sql(sqlx::Error), Idempotency(Error) }
//! # impl From<sqlx::Error> for PayError { fn from(error: sqlx::Error) -> Self { Self::Sql(error) } }
//! # impl From<Error> for PayError { fn from(error: Error) -> Self { Self::Idempotency(error) } }
//! use idempotent_runtime::{Error, idempotent};
//! use sqlx::{Postgres, Transaction};
//!
//! #[idempotent(name = "orders.pay", key = order_id, ttl = "30d", transaction = tx)]
//! async fn pay(tx: &mut Transaction<'_, Postgres>, order_id: &str, cents: i64) -> Result<String, PayError> {
//!     // Release 1 only. An old process that holds the row is waited for; its receipt becomes this call's result.
//!     let claim = "INSERT INTO processed (order_id, receipt) VALUES ($1, $1) ON CONFLICT DO NOTHING";
//!     if sqlx::query(claim).bind(order_id).execute(&mut **tx).await?.rows_affected() == 0 {
//!         let old = sqlx::query_scalar("SELECT receipt FROM processed WHERE order_id = $1");
//!         return Ok(old.bind(order_id).fetch_one(&mut **tx).await?);
//!     }
//!     let book = sqlx::query("INSERT INTO payment (order_id, cents) VALUES ($1, $2)");
//!     book.bind(order_id).bind(cents).execute(&mut **tx).await?;
//!     Ok(order_id.to_owned())
//! }
//! # }
//! # fn main() {}
//! ```
//!
//! This holds if release 0, too, inserts its row in the transaction of its effect. If it commits the row first and acts later, a row may be of a run that was
//! killed: decide as release 0 does.
