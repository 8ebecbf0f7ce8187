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
    /// A key alone.
    pub(super) fn new(key: &str) -> Self {
        Self::inline(key.as_bytes()).unwrap_or_else(|| Self::Apart(Bytes::copy_from_slice(key.as_bytes())))
    }

    fn inline(key: &[u8]) -> Option<Self> {
        let mut bytes = [0; INLINE];
        bytes.get_mut(..key.len())?.copy_from_slice(key);
        Some(Self::Inline { len: u8::try_from(key.len()).ok()?, bytes })
    }

    /// A key and a result that the record does not hold itself; `None` if it does.
    pub(super) fn apart(key: &str, result: &[u8]) -> Option<Self> {
        let fits = key.len() + result.len() <= INLINE;
        (!fits).then(|| Self::Apart([key.as_bytes(), result].concat().into()))
    }

    /// Adds to a key the result that fits beside it.
    pub(super) fn append(&mut self, result: &[u8]) {
        let Self::Inline { len, bytes } = self else { return };
        let start = usize::from(*len);
        if let (Some(room), Ok(end)) = (bytes.get_mut(start..start + result.len()), u8::try_from(start + result.len()))
        {
            room.copy_from_slice(result);
            *len = end;
        }
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
            assert_eq!(Packed::new(&text[..key_len]).bytes(), &text.as_bytes()[..key_len]);
            for result_len in 0..result.len() {
                let (key, result) = (&text[..key_len], &result[..result_len]);
                let packed = Packed::apart(key, result).unwrap_or_else(|| {
                    let mut packed = Packed::new(key);
                    packed.append(result);
                    packed
                });
                assert_eq!(packed.bytes(), [key.as_bytes(), result].concat());
                assert_eq!(packed.tail(key_len), result);
                assert_eq!(matches!(packed, Packed::Inline { .. }), key_len + result_len <= INLINE);
            }
        }
    }
}
