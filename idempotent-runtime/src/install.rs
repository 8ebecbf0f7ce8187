//! The handle that calls use when they name none.

use std::sync::OnceLock;

use crate::{
    error::{Error, SetupError},
    idempotency::Idempotency,
};

static INSTALLED: OnceLock<Idempotency> = OnceLock::new();

/// Makes this handle the one that functions use which name no other. Call it once, at start-up, before any of them.
///
/// # Errors
///
/// [`SetupError::AlreadyInstalled`] if one is installed already, or a call has used the embedded store already: its results would
/// not be found in the new one.
///
/// ```
/// # use idempotent_runtime::{Idempotency, SetupError, install};
/// # fn main() -> Result<(), SetupError> {
/// install(Idempotency::memory())?;
/// assert!(install(Idempotency::memory()).is_err());
/// # Ok(()) }
/// ```
pub fn install(idempotency: Idempotency) -> Result<(), SetupError> {
    INSTALLED.set(idempotency).map_err(|_| SetupError::AlreadyInstalled)
}

/// The installed handle; without one, the embedded store's.
///
/// # Errors
///
/// [`Error::NotInstalled`] where nothing is installed and the embedded store is not compiled in.
pub fn installed() -> Result<&'static Idempotency, Error> {
    #[cfg(feature = "memory")]
    return Ok(INSTALLED.get_or_init(|| {
        crate::engine::events::embedded();
        Idempotency::memory()
    }));
    #[cfg(not(feature = "memory"))]
    INSTALLED.get().ok_or(Error::NotInstalled)
}
