//! Proof of ownership of a claim.

use std::fmt;

/// 128 random bits, made by the caller, that name one claim.
///
/// The caller makes it, so that a claim whose reply was lost can be recognised by asking again.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Nonce([u8; Self::LEN]);

impl Nonce {
    /// Its length in bytes.
    pub const LEN: usize = 16;

    /// A fresh nonce, from the thread's cryptographic generator.
    #[must_use]
    pub fn random() -> Self {
        Self(rand::random())
    }

    /// The nonce with these bytes, as a store read them.
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

/// Ownership is not for logs: whoever knows the nonce can end the claim.
impl fmt::Debug for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Nonce(..)")
    }
}

/// 128 random bits that name one life of a key: from the claim of the vacant key until its record is gone.
///
/// They are the nonce of the claim that began the life, and stay through takeovers. Whatever belongs to a life and lies
/// outside its record carries them, so that two lives of one key are never mixed up.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Generation([u8; Self::LEN]);

impl Generation {
    /// Its length in bytes.
    pub const LEN: usize = Nonce::LEN;

    /// The generation with these bytes, as a store read them.
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

/// The life that begins with the claim of this nonce.
impl From<Nonce> for Generation {
    fn from(nonce: Nonce) -> Self {
        Self(nonce.0)
    }
}

/// The first claim of a life can be ended by whoever knows these bits.
impl fmt::Debug for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Generation(..)")
    }
}

/// Proof of ownership of a claim: the caller's nonce and, once known, the store's fence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Token {
    /// Names the claim.
    pub nonce: Nonce,
    /// A number that only rises per key; `None` where the store makes it on first use ([`Store::fence`]).
    ///
    /// [`Store::fence`]: crate::store::Store::fence
    pub fence: Option<u64>,
}

impl Token {
    /// The token of the claim that this nonce names, without a fence.
    #[must_use]
    pub const fn new(nonce: Nonce) -> Self {
        Self { nonce, fence: None }
    }

    /// Sets the fence, where the store knows it by now.
    #[must_use]
    pub fn with_fence(mut self, fence: impl Into<Option<u64>>) -> Self {
        self.fence = fence.into();
        self
    }
}
