//! 3. Know which arguments count, and what a refactoring changes.
//!
//! A record has the key and a *fingerprint*: a SHA-256 hash of the arguments, by their names. A call whose key is on record, but whose
//! fingerprint is another one, is refused with [`Error::Mismatch`](crate::Error::Mismatch). So a key that is used for two requests by
//! mistake never returns the wrong result.
//!
//! ```
//! # #[cfg(all(feature = "macros", feature = "memory"))] mod example {
//! use idempotent_runtime::{Error, Idempotency, idempotent, install};
//!
//! struct Mailer; // a connection: it has no `Serialize`, and does not belong to the request
//!
//! #[idempotent(name = "mail.send", key = message_id, skip(mailer, trace_id))]
//! async fn send(mailer: &Mailer, message_id: &str, text: &str, trace_id: u64) -> Result<usize, Error> {
//!     Ok(text.len())
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # pub async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # install(Idempotency::memory())?;
//! send(&Mailer, "m-1", "hello", 1).await?;
//! send(&Mailer, "m-1", "hello", 2).await?; // a repeat: the trace id does not count
//! let other = send(&Mailer, "m-1", "good bye", 3).await;
//! assert!(matches!(other, Err(Error::Mismatch { .. })));
//! # Ok(()) }
//! # }
//! # #[cfg(all(feature = "macros", feature = "memory"))] fn main() { example::main().unwrap() }
//! # #[cfg(not(all(feature = "macros", feature = "memory")))] fn main() {}
//! ```
//!
//! Put into `skip(…)` what differs between two tries of one request: connections, trace ids, the time of the try, the number of the try.
//! An argument in `skip` may differ, and nobody notices. So do not skip an amount or a receiver.
//!
//! Two values are equal if serde writes them equally. A decimal of 1.0 and one of 1.00 differ, and so does one instant in two time zones.
//! Bring such values to one form before the call. Two equal sets (`HashSet`, `BTreeSet`, `IndexSet`) and maps are equal in any order;
//! vectors are not.
//!
//! # What a refactoring changes
//!
//! A record of yesterday meets the code of today. "Other" below means: with a `key`, a repeat of an older call is a mismatch; without one,
//! the hash is the key, and the repeat runs the body again.
//!
//! | change | a repeat of an older call |
//! |---|---|
//! | move or rename the function, with a `name` | is recognised |
//! | the same, without a `name` | **runs again** |
//! | change the `name`, or what `key` is made of | **runs again** |
//! | move an argument, or a field of a struct | is recognised |
//! | rename an argument | other |
//! | rename a field, or a variant of an enum | other, unless `#[serde(rename = "…")]` keeps the old name |
//! | add an argument, or a field | other, unless it is left out while it has no value (below) |
//! | rename a type, wrap a field in a newtype, widen `u32` to `u64` | is recognised |
//! | turn an integer into a float or a string | other |
//! | have a dependency switch on `serde_json`'s feature `arbitrary_precision`, with an argument that is a `Value` made from an `f32` | other: it then has the digits of the `f32` (`0.1`), and was widened before. Make such a `Value` from an `f64` |
//! | put an argument into `skip`, or take it out | other |
//! | add a field to the result, with `#[serde(default)]` | gets the old result |
//! | change the result so that the old JSON does not fit | gets [`Undecodable`](crate::Error::Undecodable); the body does not run |
//! | rename a [step](crate::step) | runs that step again |
//! | change `ttl`, `lease` or `wait` | is recognised; a result that is on record keeps its old `ttl` |
//!
//! A new field can be added without a change of the hash:
//!
//! ```
//! use idempotent_runtime::Fingerprint;
//! use serde::Serialize;
//!
//! #[derive(Serialize)]
//! struct Order { id: u32 }
//!
//! #[derive(Serialize)]
//! struct NewOrder {
//!     id: u64, // wider
//!     #[serde(skip_serializing_if = "Option::is_none")]
//!     voucher: Option<String>, // new
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let old = Fingerprint::of(&Order { id: 17 })?;
//! assert_eq!(Fingerprint::of(&NewOrder { id: 17, voucher: None })?, old);
//! assert_ne!(Fingerprint::of(&NewOrder { id: 17, voucher: Some("SPRING".to_owned()) })?, old);
//! # Ok(()) }
//! ```
//!
//! Where a change cannot be avoided, deploy it when no retry of an older call can come any more: one `ttl` after the last old call. During
//! a deploy, old and new processes work on the same records. A name that changes meanwhile makes two records of one thing.
//!
//! # Which argument differed
//!
//! A mismatch names the arguments that differ if the handle was built with
//! [`record_arguments(true)`](crate::IdempotencyBuilder::record_arguments). The arguments are then in the store: see
//! [security](super::security).
