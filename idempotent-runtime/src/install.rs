//! The handle that calls without one of their own use.

use crate::{Error, Idempotency};

/// The installed handle.
pub(crate) fn installed() -> Result<Idempotency, Error> {
    Ok(Idempotency { max_key_len: 1024 })
}
