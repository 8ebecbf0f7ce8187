//! Run an async function once per key and replay its stored result.

#[doc(hidden)]
#[path = "private.rs"]
pub mod __private;
mod codec;
mod engine;
mod error;
mod fingerprint;
mod idempotency;
mod install;
pub mod key;
mod notify;
mod operation;
mod record;
pub mod store;
mod store_error;
mod token;

pub use error::{ArgumentsError, ConfigError, Error, KeyError, Undecodable};
pub use fingerprint::Fingerprint;
pub use idempotency::Idempotency;
pub use operation::{Abandoned, ErrorPolicy, Operation, ReleaseErrors, StoreErrors, StoreErrorsIf};
pub use store::Store;
pub use store_error::{StoreError, StoreErrorKind};

#[cfg(feature = "macros")]
pub use idempotent_macros::idempotent;
