//! 7. Let your function return your own error.
//!
//! The call itself can fail: the store is down, a duplicate is still running. So your error type has to be able to hold the library's:
//! `E: From<idempotent_runtime::Error>`. That is all, as long as errors are not kept.
//!
//! # An enum of yours
//!
//! With `thiserror`, it is one variant: `#[error(transparent)] Idempotency(#[from] idempotent_runtime::Error)`. By hand:
//!
//! ```
//! # #[cfg(all(feature = "macros", feature = "memory"))] mod example {
//! use idempotent_runtime::{Error, Idempotency, idempotent, install};
//!
//! #[derive(Debug)]
//! enum PaymentError {
//!     Declined,
//!     Network(std::io::Error), // a type of another crate: wrapped
//!     Idempotency(Error),
//! }
//!
//! impl From<Error> for PaymentError {
//!     fn from(error: Error) -> Self { Self::Idempotency(error) }
//! }
//!
//! impl From<std::io::Error> for PaymentError {
//!     fn from(error: std::io::Error) -> Self { Self::Network(error) }
//! }
//!
//! #[idempotent(name = "payments.charge", key = order_id)]
//! async fn charge(order_id: &str, cents: u64) -> Result<String, PaymentError> {
//!     if cents > 100_000 { return Err(PaymentError::Declined) }
//!     Ok(order_id.to_owned())
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # pub async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # install(Idempotency::memory())?;
//! assert!(matches!(charge("order-17", 900_000).await, Err(PaymentError::Declined))); // frees the key
//! assert!(charge("order-17", 4_200).await.is_ok()); // runs the body
//! # let _ = PaymentError::from(std::io::Error::other("unreachable"));
//! # Ok(()) }
//! # }
//! # #[cfg(all(feature = "macros", feature = "memory"))] fn main() { example::main().unwrap() }
//! # #[cfg(not(all(feature = "macros", feature = "memory")))] fn main() {}
//! ```
//!
//! Rust allows no `impl From<idempotent_runtime::Error>` for `std::io::Error`, `String`, `sqlx::Error` or another type that is not yours.
//! Wrap it in an enum, as `Network` above.
//!
//! # `anyhow` and boxed errors
//!
//! `anyhow::Result<T>` works, and so does `Box<dyn Error + Send + Sync>`. A caller finds the library's error by its type:
//! `error.downcast_ref::<idempotent_runtime::Error>()`. Such errors cannot be kept: they have no form in which to store them. The
//! attribute's page has [an example](macro@crate::idempotent#your-error-type).
//!
//! # Errors that are answers
//!
//! A declined card is an answer: a retry should get it again, and not ask the bank once more. A bank that is not available is no answer. A
//! function tells them apart. Then errors are stored, so the type needs serde's traits:
//!
//! ```
//! # #[cfg(all(feature = "macros", feature = "memory"))] mod example {
//! use idempotent_runtime::{Error, Idempotency, idempotent, install};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Debug, Serialize, Deserialize)]
//! enum PaymentError {
//!     Declined,
//!     Unavailable,
//!     #[serde(skip)] // the library's own error is never stored
//!     Idempotency(Error),
//! }
//!
//! impl From<Error> for PaymentError {
//!     fn from(error: Error) -> Self { Self::Idempotency(error) }
//! }
//!
//! impl PaymentError {
//!     fn is_final(&self) -> bool { matches!(self, Self::Declined) }
//! }
//!
//! #[idempotent(name = "payments.charge", key = order_id, errors = PaymentError::is_final)]
//! async fn charge(order_id: &str, bank: &str) -> Result<(), PaymentError> {
//!     Err(if bank == "down" { PaymentError::Unavailable } else { PaymentError::Declined })
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # pub async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # install(Idempotency::memory())?;
//! assert!(matches!(charge("order-17", "down").await, Err(PaymentError::Unavailable))); // frees the key
//! assert!(matches!(charge("order-17", "up").await, Err(PaymentError::Declined))); // kept
//! let repeat = charge("order-17", "down").await; // the key is used: other arguments are a mismatch
//! assert!(matches!(repeat, Err(PaymentError::Idempotency(Error::Mismatch { .. }))));
//! # Ok(()) }
//! # }
//! # #[cfg(all(feature = "macros", feature = "memory"))] fn main() { example::main().unwrap() }
//! # #[cfg(not(all(feature = "macros", feature = "memory")))] fn main() {}
//! ```
//!
//! `errors = keep` keeps every `Err`. A variant with `#[serde(skip)]` frees the key all the same. An error that would not come back the
//! same from its JSON is not replayed altered: repeats get [`ResultNotKept`](crate::Error::ResultNotKept).
//!
//! For HTTP, [`Error`](crate::Error) has a [status](crate::Error::http_status) and a [code](crate::Error::code).
