//! Other attributes, documentation and visibility stay as written.
#![deny(warnings, missing_docs)]

use idempotent_runtime::{Error, idempotent};

/// A public module.
pub mod public {
    use super::{Error, idempotent};

    /// Documented.
    #[must_use = "the receipt"]
    #[idempotent(key = id)]
    #[cfg(all())]
    #[inline]
    pub async fn charge(id: u64) -> Result<u64, Error> {
        Ok(id)
    }

    /// Not compiled.
    #[cfg(any())]
    #[idempotent(key = id)]
    pub async fn absent(id: u64) -> Result<u64, Error> {
        Ok(id)
    }

    #[doc(hidden)]
    #[idempotent(key = id)]
    #[allow(unused_mut)]
    pub(in crate::public) async fn restricted(mut id: u64) -> Result<u64, Error> {
        Ok(id)
    }

    #[deprecated]
    #[idempotent(key = id)]
    pub(super) async fn old(id: u64) -> Result<u64, Error> {
        restricted(id).await
    }

    #[idempotent(key = id)]
    #[expect(unused_variables)]
    async fn expected(id: u64) -> Result<u64, Error> {
        let unused = 1;
        Ok(id)
    }

    /// Calls the private one.
    pub async fn public() {
        let _ = expected(1).await;
    }

    /// # Safety
    /// None needed.
    #[idempotent(key = id)]
    pub async unsafe fn dangerous(id: u64) -> Result<u64, Error> {
        Ok(id)
    }
}

#[expect(deprecated)]
fn main() {
    drop((public::charge(1), public::old(1), public::public()));
    drop(unsafe { public::dangerous(1) });
}
