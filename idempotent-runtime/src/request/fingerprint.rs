//! The hash of a request.

mod encoder;
#[cfg(test)]
pub(crate) mod model;
mod order;
mod serializer;
mod set;
mod sha256;
#[cfg(test)]
mod tests;

use std::fmt;

use serde::Serialize;

use self::{encoder::Encoder, serializer::Reason};
use super::error::ArgumentsError;

pub(crate) use self::{encoder::MAX_DEPTH, set::set_name};

/// SHA-256 over the canonical encoding of a call's arguments.
///
/// Two calls with the same key must have the same fingerprint; otherwise the second is
/// [`Error::Mismatch`](crate::Error::Mismatch).
///
/// ```
/// use std::collections::HashMap;
/// use idempotent_runtime::Fingerprint;
///
/// let one = HashMap::from([("amount", 7_u8), ("tip", 1)]);
/// let other = HashMap::from([("tip", 1_u64), ("amount", 7)]);
/// assert_eq!(Fingerprint::of(&one)?, Fingerprint::of(&other)?);
/// assert_ne!(Fingerprint::of(&one)?, Fingerprint::of(&HashMap::from([("amount", 7)]))?);
/// # Ok::<_, idempotent_runtime::ArgumentsError>(())
/// ```
///
/// The rest of this page specifies the encoding, so that other programs can make the same fingerprints and keys.
///
#[doc = include_str!("../../FINGERPRINT.md")]
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; Self::LEN]);

impl Fingerprint {
    /// Its length in bytes.
    pub const LEN: usize = 32;

    /// The fingerprint of one value.
    ///
    /// # Errors
    ///
    /// If the value contains a NaN, is nested too deeply, or its `Serialize` implementation fails.
    pub fn of<T: Serialize + ?Sized>(value: &T) -> Result<Self, ArgumentsError> {
        let mut encoder = Encoder::new();
        value
            .serialize(&mut *encoder)
            .and_then(|()| encoder.finish())
            .map(Self)
            .map_err(|Reason(reason)| ArgumentsError { argument: "", reason })
    }

    /// The fingerprint with these bytes, as a store read them.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; Self::LEN]) -> Self {
        Self(bytes)
    }

    /// Its bytes, for a store to write.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fingerprint(..)")
    }
}

/// The arguments of a call on their way into a [`Fingerprint`]: as if they were the fields of one struct.
///
/// Since the names come in order, large arguments are hashed as they are serialized, without keeping their encoding.
pub(crate) struct Arguments {
    encoder: Box<Encoder>,
    expected: usize,
    last: Option<&'static str>,
    error: Option<ArgumentsError>,
}

impl Arguments {
    /// Starts a list of `count` named arguments.
    #[must_use]
    pub(crate) fn new(count: usize) -> Self {
        Self { encoder: Encoder::with_arguments(), expected: count, last: None, error: None }
    }

    /// Adds one. Names come in ascending order, each once.
    pub(crate) fn argument<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> &mut Self {
        debug_assert!(self.last < Some(name), "argument names come in ascending order");
        debug_assert!(self.expected > 0, "no more arguments than announced");
        self.last = Some(name);
        self.expected = self.expected.saturating_sub(1);
        // After a failure the encoding is incomplete and stays so; the first argument that failed is the one to name.
        if self.error.is_none() {
            self.error = self
                .encoder
                .argument(name, value)
                .err()
                .map(|Reason(reason)| ArgumentsError { argument: name, reason });
        }
        self
    }

    /// Their fingerprint.
    ///
    /// # Errors
    ///
    /// The first argument that failed, as [`Fingerprint::of`] would.
    pub(crate) fn finish(mut self) -> Result<Fingerprint, ArgumentsError> {
        debug_assert_eq!(self.expected, 0, "as many arguments as announced");
        if let Some(error) = self.error {
            return Err(error);
        }
        self.encoder.end_arguments();
        self.encoder.finish().map(Fingerprint).map_err(|Reason(reason)| ArgumentsError { argument: "", reason })
    }
}
