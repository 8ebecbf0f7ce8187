//! 2. Choose the key: what names the thing that must happen once.
//!
//! A key names the *thing*, not the try. Ask: if these two calls both arrive, must the second do nothing? If so, they have one key. If
//! both must be done, they have two.
//!
//! | the thing | key | not this |
//! |---|---|---|
//! | the one charge of an order | `order_id` | an id that is made in the function that charges |
//! | one of several refunds of an order | `(order_id, refund_id)` | `order_id`: the second refund is a mismatch, or, for the same amount, is not paid |
//! | a charge each month | `(subscription_id, month)`, where `month` is the month that is paid for | the time of the call: a retry after midnight charges twice |
//! | a form that somebody submits | an id that is made when the form is shown | an id that is made at each click |
//! | a request of a client | the client's `Idempotency-Key`, with the tenant as [scope](super::http_and_webhooks) | the client's key alone: two tenants may choose the same |
//! | a webhook | `(sender, endpoint, event_id)` | the signature or the body: both can differ between attempts |
//! | a message of a queue | the id that the producer gave it | the broker's delivery tag: each delivery has another |
//! | each line of a batch | `(batch_id, line)` and a call for each line | `batch_id` for all: a failure in the middle repeats the first lines |
//! | a job that runs each day | `(job, day)`, where the scheduler gives the day | the clock as the job reads it |
//! | a thing without an id | no `key`: the hash of all arguments | this, if two equal calls can both be meant |
//!
//! # Several refunds of one order
//!
//! Whoever decides that there is a refund makes its id, and stores it before the first try:
//!
//! ```
//! # #[cfg(all(feature = "macros", feature = "memory"))] mod example {
//! use idempotent_runtime::{Error, Idempotency, idempotent, install};
//!
//! #[idempotent(name = "shop.refund", key = (order_id, refund_id), ttl = "30d")]
//! async fn refund(order_id: &str, refund_id: u32, cents: u64) -> Result<String, Error> {
//!     Ok(format!("{cents} back, refund {refund_id} of {order_id}"))
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # pub async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # install(Idempotency::memory())?;
//! let one = refund("order-17", 1, 500).await?;
//! let two = refund("order-17", 2, 500).await?; // the same amount, and meant: another refund
//! assert_ne!(one, two);
//! assert_eq!(refund("order-17", 2, 500).await?, two); // a retry of the second
//! # Ok(()) }
//! # }
//! # #[cfg(all(feature = "macros", feature = "memory"))] fn main() { example::main().unwrap() }
//! # #[cfg(not(all(feature = "macros", feature = "memory")))] fn main() {}
//! ```
//!
//! # Never a new id per try
//!
//! An id that is made for each try makes each try another thing: every try runs. Make the id outside the loop that retries. If the process
//! can die between two tries, store the id with the request before the first one.
//!
//! ```
//! # #[cfg(all(feature = "macros", feature = "memory"))] mod example {
//! # use std::time::Duration;
//! # use idempotent_runtime::{Error, idempotent};
//! # #[idempotent(name = "shop.pay", key = payment_id)]
//! # async fn pay(payment_id: &str, cents: u64) -> Result<(), Error> { Ok(()) }
//! async fn pay_with_retries(payment_id: &str, cents: u64) -> Result<(), Error> {
//!     for _ in 0..5 {
//!         match pay(payment_id, cents).await { // the caller's id, the same in each try
//!             Err(error) if error.is_retryable() => tokio::time::sleep(Duration::from_secs(1)).await,
//!             answer => return answer,
//!         }
//!     }
//!     pay(payment_id, cents).await
//! }
//! # }
//! # fn main() {}
//! ```
//!
//! Pass a key on to other systems in the same way: [`child_key`](crate::Execution::child_key) gives the same text in every attempt.
//!
//! # Two services on one store
//!
//! The operation's `name` is part of the stored key. Two operations with different names never share a record. So begin each name with the
//! service: `billing.charge`, `shop.charge`. Two services that use one name and one key answer for each other.
//!
//! Keep test and production on stores of their own: another database, or another [prefix](crate::store::redis::RedisStoreBuilder::prefix)
//! of Redis, or another [table](crate::store::postgres::PostgresStoreBuilder::table) of PostgreSQL.
//!
//! # What can be a key
//!
//! Strings, integers, booleans, UUIDs, tuples and structs of these, or a template `"order:{order_id}"`. A key that is `None` or empty, or
//! has such a part, is refused: otherwise all calls without an id would be one. So is an empty list or a struct without fields, as a whole key. Floats and maps are refused. Parts do not run into each
//! other: `("a:b", "c")` and `("a", "b:c")` are two keys. The attribute's page has [the rules](macro@crate::idempotent#keys).
