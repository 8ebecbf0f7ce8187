//! 1. Make one function run once, and see each answer that it can give.
//!
//! A caller that got no answer tries again: a client after a time-out, a sender of webhooks, a queue, a person who clicks twice. The first
//! try may have worked. If the function charges a card, the second try charges it again.
//!
//! The attribute keeps a record of each call in a store. A call whose record is there gets the stored result, and the function's body does
//! not run.
//!
//! ```sh
//! cargo add idempotent-runtime --features postgres   # or redis, sqlite; without a feature: the embedded store
//! ```
//!
//! ```
//! # #[cfg(all(feature = "macros", feature = "memory"))] mod example {
//! use idempotent_runtime::{Disposition, Error, Idempotency, idempotent, install, with_disposition};
//!
//! #[idempotent(name = "payments.charge", key = order_id, ttl = "24h")]
//! async fn charge(order_id: &str, cents: u64) -> Result<String, Error> {
//!     Ok(format!("charged {cents} for {order_id}"))
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # pub async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // Once, at start-up. In a service: `Idempotency::connect("postgres://localhost/shop").await?`.
//! install(Idempotency::memory())?;
//!
//! let (first, how) = with_disposition(charge("order-17", 4_200)).await;
//! assert_eq!(how, Disposition::Executed); // the body ran
//!
//! let (again, how) = with_disposition(charge("order-17", 4_200)).await;
//! assert_eq!(how, Disposition::Replayed); // the stored result
//! assert_eq!(again?, first?);
//!
//! let other = charge("order-17", 9_999).await; // the same key, another request
//! assert!(matches!(other, Err(Error::Mismatch { .. })));
//! # Ok(()) }
//! # }
//! # #[cfg(all(feature = "macros", feature = "memory"))] fn main() { example::main().unwrap() }
//! # #[cfg(not(all(feature = "macros", feature = "memory")))] fn main() {}
//! ```
//!
//! # Three decisions
//!
//! - **`name`**: the name of the thing that is done, for ever. Without one it is the path of the function: when the function moves, its
//!   records are forgotten. See [same request](super::same_request).
//! - **`key`**: the id of the thing that must happen once. See [keys](super::keys).
//! - **`ttl`**: the time for which a result is kept. Make it longer than the longest retry. See [how long](super::how_long).
//!
//! # Two calls at once
//!
//! A duplicate that comes while the first call runs waits for it, and gets its result:
//!
//! ```
//! # #[cfg(all(feature = "macros", feature = "memory"))] mod example {
//! use idempotent_runtime::{Error, Idempotency, idempotent};
//!
//! #[idempotent(name = "reports.make", key = day, store = store, skip(store))]
//! async fn report(store: &Idempotency, day: u32) -> Result<u32, Error> {
//!     tokio::time::sleep(std::time::Duration::from_millis(10)).await;
//!     println!("this line is printed once");
//!     Ok(day * 2)
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # pub async fn main() -> Result<(), Error> {
//! let store = Idempotency::memory();
//! let (one, two) = tokio::join!(report(&store, 7), report(&store, 7));
//! assert_eq!((one?, two?), (14, 14));
//! # Ok(()) }
//! # }
//! # #[cfg(all(feature = "macros", feature = "memory"))] fn main() { example::main().unwrap() }
//! # #[cfg(not(all(feature = "macros", feature = "memory")))] fn main() {}
//! ```
//!
//! # The answers of a call
//!
//! | answer | the body | do this |
//! |---|---|---|
//! | `Ok` | ran now, or ran in an earlier call | use the result |
//! | `Err` of the body | ran | call again: by default, an `Err` frees the key |
//! | [`Mismatch`](crate::Error::Mismatch) | did not run | find out why one key names two requests; do not call again with a new key |
//! | [`InFlight`](crate::Error::InFlight) | is running for another call | call again later |
//! | [`Abandoned`](crate::Error::Abandoned) | may have run in part | see [when it fails](super::when_it_fails) |
//! | [`Store`](crate::Error::Store) | did not run | call again if [`is_retryable`](crate::Error::is_retryable) says so |
//!
//! [`Error`](crate::Error) lists them all. Most code needs one question: `error.is_retryable()`. If it is true, the same call may succeed
//! later. Call again with the same key and the same arguments.
