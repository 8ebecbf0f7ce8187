//! Run an async function once per key and replay its stored result.

#[doc(hidden)]
#[path = "private.rs"]
pub mod __private;
#[cfg(feature = "memory")]
mod clock;
mod codec;
mod engine;
mod error;
mod events;
mod execution;
mod fingerprint;
mod idempotency;
mod install;
pub mod key;
mod notify;
mod observe;
mod operation;
mod record;
pub mod store;
mod store_error;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod token;
#[cfg(feature = "redis")]
mod wire;

pub use error::{ArgumentsError, ConfigError, Error, KeyError, Undecodable};
pub use execution::{Execution, current};
pub use fingerprint::Fingerprint;
pub use idempotency::{Builder, Idempotency, WhenUnavailable};
#[cfg(feature = "macros")]
pub use idempotent_macros::idempotent;
pub use install::{install, installed};
pub use observe::{Disposition, observe};
pub use operation::{Abandoned, ErrorPolicy, Operation, ReleaseErrors, StoreErrors, StoreErrorsIf};
pub use record::{Outcome, Record, RecordKey, State, Unavailable};
pub use store::Store;
pub use store_error::{StoreError, StoreErrorKind};
