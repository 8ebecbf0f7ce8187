//! 15. Call it from synchronous code, actix, tonic and background jobs.
//!
//! Calls are futures on Tokio, with its timers. That is all that a caller has to offer.
//!
//! # Synchronous code
//!
//! Keep one runtime for the life of the process, and block on it. A multi-threaded one goes on between your calls: it renews leases and
//! records ends in the background.
//!
//! ```
//! # #[cfg(all(feature = "macros", feature = "memory"))] mod example {
//! use idempotent_runtime::{Error, Idempotency, idempotent, install};
//! use tokio::runtime::Builder;
//!
//! #[idempotent(name = "invoices.print", key = invoice)]
//! async fn print(invoice: u32) -> Result<String, Error> {
//!     // Work that blocks its thread goes there, so that the lease is renewed meanwhile.
//!     let printed = tokio::task::spawn_blocking(move || format!("printed {invoice}"));
//!     Ok(printed.await.expect("no panic"))
//! }
//!
//! pub fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
//!     install(Idempotency::memory())?; // or: runtime.block_on(Idempotency::connect(&url))?
//!     assert_eq!(runtime.block_on(print(17))?, runtime.block_on(print(17))?);
//!     Ok(())
//! }
//! # }
//! # #[cfg(all(feature = "macros", feature = "memory"))] fn main() { example::main().unwrap() }
//! # #[cfg(not(all(feature = "macros", feature = "memory")))] fn main() {}
//! ```
//!
//! Do not block inside an async task: from a thread of `spawn_blocking`, use `Handle::block_on`. Before the process ends, wait for
//! [`drain`](crate::Idempotency::drain). The attribute needs an `async fn`; a synchronous function is called from one, as above.
//!
//! # actix
//!
//! There is no layer for actix, whose services are not tower's. Call an annotated function from the handler. Take the key from the header
//! and the tenant from your authentication, and put both into the key: [security](super::security) has this function. Map errors by
//! [`http_status`](crate::Error::http_status). A replay is then the function's result, and the handler makes the response anew from it.
//!
//! actix runs each worker on [a single-threaded Tokio runtime](https://docs.rs/actix-web/4/actix_web/rt/index.html), which suffices: a call need
//! not be `Send`. With `detach`, the body has to be. A handler that blocks its worker keeps the leases of all bodies of that worker from
//! being renewed.
//!
//! # tonic
//!
//! The layer is a tower layer, and knows gRPC: it keeps a response by its `grpc-status`, and refuses with one. The key is the metadata entry
//! `idempotency-key`. Two things differ from JSON: a message is compared byte by byte, so a client repeats the bytes and does not encode a map
//! anew; and a request is read to its end before the handler begins, so bidirectional streams can have no key. The page of the module `tower` has
//! the table of statuses.
//!
//! # Background jobs
//!
//! Job queues run a job at least once. Take as the key what the job is *for*, and not the id of this try. For a schedule that each
//! replica has, that is the day:
//!
//! ```
//! # #[cfg(all(feature = "macros", feature = "memory"))] mod example {
//! use idempotent_runtime::{Error, Idempotency, idempotent, step};
//!
//! #[idempotent(name = "reports.nightly", key = day, ttl = "7d", wait = "0s", max_attempts = 3, store = store, skip(store))]
//! async fn nightly(store: &Idempotency, day: &str) -> Result<u64, Error> {
//!     let rows = step("collect", collect(day)).await?; // not collected again after a crash
//!     step("mail", mail(rows)).await?;
//!     Ok(rows)
//! }
//!
//! async fn collect(day: &str) -> Result<u64, Error> { Ok(day.len() as u64) }
//! async fn mail(_rows: u64) -> Result<(), Error> { Ok(()) }
//!
//! /// Each replica calls this at night, and again each quarter of an hour.
//! async fn tick(store: &Idempotency, day: &str) -> Result<(), Error> {
//!     match nightly(store, day).await {
//!         Err(error) if error.is_retryable() => Ok(()), // another replica is at it, or the store is away: the next tick asks
//!         other => other.map(drop), // done, by whomever; or an error for a person
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # pub async fn main() -> Result<(), Error> {
//! let store = Idempotency::memory();
//! tick(&store, "2026-01-31").await?;
//! tick(&store, "2026-01-31").await?; // replayed
//! # Ok(()) }
//! # }
//! # #[cfg(all(feature = "macros", feature = "memory"))] fn main() { example::main().unwrap() }
//! # #[cfg(not(all(feature = "macros", feature = "memory")))] fn main() {}
//! ```
//!
//! - A job may run for hours: the lease is renewed. A deployment in the middle of it is a kill: [steps](crate::step) say how much is repeated.
//! - `ttl` is longer than the time for which a queue may hand the job out again.
//! - A worker that was told to stop calls [`drain`](crate::Idempotency::drain).
//! - Messages of a broker have an [inbox](super::consumers_and_outbox), which also counts attempts and keeps dead letters.
