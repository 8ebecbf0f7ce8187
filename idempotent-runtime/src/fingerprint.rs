//! What a request hashes to.

use std::fmt;

use serde::Serialize;

use crate::error::ArgumentsError;

/// SHA-256 over the canonical encoding of a call's arguments.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; Self::LEN]);

impl Fingerprint {
    /// Its length in bytes.
    pub const LEN: usize = 32;

    /// The fingerprint of one value.
    pub fn of<T: Serialize + ?Sized>(value: &T) -> Result<Self, ArgumentsError> {
        let _ = value;
        Err(ArgumentsError { argument: "", reason: "not built yet" })
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
pub struct Arguments {
    error: Option<ArgumentsError>,
}

impl Arguments {
    /// Starts a list of `count` named arguments.
    #[must_use]
    pub fn new(count: usize) -> Self {
        let _ = count;
        Self { error: None }
    }

    /// Adds one. Names come in ascending order, each once.
    pub fn argument<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> &mut Self {
        let _ = (name, value);
        self
    }

    /// Their fingerprint, or the first argument that failed.
    pub fn finish(self) -> Result<Fingerprint, ArgumentsError> {
        self.error.map_or(Ok(Fingerprint([0; 32])), Err)
    }
}
