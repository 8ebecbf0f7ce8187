//! The handle of functions that name none.

use std::sync::OnceLock;

use crate::{
    error::{Error, SetupError},
    idempotency::Idempotency,
};

static INSTALLED: OnceLock<Idempotency> = OnceLock::new();

/// Sets the process-wide handle: annotated functions without `store = …` use it. Call it once, at start-up.
///
/// # Errors
///
/// [`SetupError::AlreadyInstalled`] if a handle is installed already, or a call has used the embedded store already: its results would
/// not be found in the new one.
///
/// ```
/// # use idempotent_runtime::{Idempotency, install};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// install(Idempotency::memory())?;
/// assert!(install(Idempotency::memory()).is_err());
/// # Ok(()) }
/// ```
pub fn install(idempotency: Idempotency) -> Result<(), SetupError> {
    INSTALLED.set(idempotency).map_err(|_| SetupError::AlreadyInstalled)
}

/// Gives the installed handle. Where nothing is installed and no shared store is compiled in, it installs the embedded
/// store, and says so in one warning event.
///
/// # Errors
///
/// [`Error::NotInstalled`] where nothing is installed and a shared store is compiled in (features `redis`, `postgres` and
/// `sqlite`), or the embedded one is not: each process would keep its own records, and duplicates would run.
pub fn installed() -> Result<&'static Idempotency, Error> {
    #[cfg(feature = "testing")]
    if let Some(handle) = crate::testing::surroundings::handle() {
        return Ok(handle);
    }
    #[cfg(all(feature = "memory", not(any(feature = "redis", feature = "postgres", feature = "sqlite"))))]
    return Ok(INSTALLED.get_or_init(|| {
        crate::engine::events::embedded();
        Idempotency::memory()
    }));
    #[cfg(any(not(feature = "memory"), feature = "redis", feature = "postgres", feature = "sqlite"))]
    INSTALLED.get().ok_or(Error::NotInstalled)
}

/// The future of a task that goes on with what the present one has begun, with its handle.
#[cfg(not(feature = "testing"))]
pub(crate) fn handed_on<F>(future: F) -> F {
    future
}
#[cfg(feature = "testing")]
pub(crate) use crate::testing::surroundings::handed_on;

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(any(not(feature = "memory"), feature = "redis", feature = "postgres", feature = "sqlite"))]
    #[test]
    fn where_a_shared_store_is_compiled_in_it_has_to_be_installed() {
        let error = installed().unwrap_err();
        assert!(matches!(error, Error::NotInstalled), "{error:?}");
        assert!(error.to_string().contains("install(Idempotency::connect("), "the line to write: {error}");
    }

    #[cfg(all(feature = "memory", not(any(feature = "redis", feature = "postgres", feature = "sqlite"))))]
    #[test]
    fn without_a_shared_store_the_embedded_one_is_used_and_stays() {
        let first = installed().unwrap();
        assert!(std::ptr::eq(first, installed().unwrap()));
        assert!(install(Idempotency::memory()).is_err(), "its results would not be found in another");
    }
}
