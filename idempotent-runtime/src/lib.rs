//! Run an async function once per key and replay its stored result.

#[cfg(feature = "memory")]
mod clock;
mod codec;
mod engine;
mod error;
mod fingerprint;
mod idempotency;
pub mod key;
mod notify;
mod operation;
mod record;
pub mod store;
mod store_error;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod token;

pub use error::{ArgumentsError, ConfigError, Error, KeyError, Undecodable};
pub use fingerprint::Fingerprint;
pub use idempotency::Idempotency;
pub use operation::{Abandoned, ErrorPolicy, Operation, ReleaseErrors, StoreErrors, StoreErrorsIf};
pub use store::Store;
pub use store_error::{StoreError, StoreErrorKind};

#[cfg(feature = "macros")]
pub use idempotent_macros::idempotent;
