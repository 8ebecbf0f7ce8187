//! A key and a result, one after the other, inside the record where they fit.
//!
//! At ten million records nearly every memory access of a hit is a cache miss. A short result therefore lies in the
//! record itself, next to what the lookup reads anyway, and is copied out; claims, completions and expiry of such
//! records never call the allocator, whose own bookkeeping can stall a call for milliseconds.

use bytes::Bytes;

/// The most bytes that a record holds itself.
const INLINE: usize = 254;

#[expect(clippy::large_enum_variant, reason = "a record has room for either, without an allocation")]
pub(super) enum Packed {
    Inline { len: u8, bytes: [u8; INLINE] },
    Apart(Bytes),
}

impl Packed {
    pub(super) fn new(key: &str, result: &[u8]) -> Self {
        let key = key.as_bytes();
        Self::inline(key, result).unwrap_or_else(|| Self::Apart([key, result].concat().into()))
    }

    fn inline(key: &[u8], result: &[u8]) -> Option<Self> {
        let mut bytes = [0; INLINE];
        let (first, rest) = bytes.split_at_mut_checked(key.len())?;
        first.copy_from_slice(key);
        rest.get_mut(..result.len())?.copy_from_slice(result);
        Some(Self::Inline { len: u8::try_from(key.len() + result.len()).ok()?, bytes })
    }

    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::Inline { len, bytes } => bytes.get(..usize::from(*len)).unwrap_or_default(),
            Self::Apart(bytes) => bytes,
        }
    }

    /// The bytes from `start` on: copied if they are few, shared if they are many.
    pub(super) fn tail(&self, start: usize) -> Bytes {
        match self {
            Self::Inline { .. } => Bytes::copy_from_slice(self.bytes().get(start..).unwrap_or_default()),
            Self::Apart(bytes) => bytes.slice(start..),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_every_length() {
        let text = "k".repeat(300);
        let result: Vec<u8> = (0..=255).cycle().take(300).collect();
        for key_len in 1..text.len() {
            for result_len in 0..result.len() {
                let (key, result) = (&text[..key_len], &result[..result_len]);
                let packed = Packed::new(key, result);
                assert_eq!(packed.bytes(), [key.as_bytes(), result].concat());
                assert_eq!(packed.tail(key_len), result);
                assert_eq!(matches!(packed, Packed::Inline { .. }), key_len + result_len <= INLINE);
            }
        }
    }
}
