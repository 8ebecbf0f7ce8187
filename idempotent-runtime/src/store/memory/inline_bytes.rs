//! The bytes of a record: its key and its result, one after the other, inside the record if they fit; and its arguments.
//!
//! At ten million records nearly every memory access of a hit is a cache miss. A short result therefore lies in the
//! record itself, next to what the lookup reads anyway, and is copied out. Claims, completions and expiry of such records
//! never call the allocator, whose own bookkeeping can stall a call for milliseconds.

use bytes::Bytes;

/// The most bytes that a record holds itself.
const INLINE: usize = 246;

pub(super) enum Packed {
    Inline {
        len: u8,
        bytes: [u8; INLINE],
    },
    /// Bytes in an allocation of their own. With arguments, even short bytes lie here: arguments are rare, so `Inline` has
    /// no room for a pointer to them.
    Apart {
        bytes: Bytes,
        arguments: Option<Bytes>,
    },
}

impl Packed {
    /// A key without a result, and its arguments.
    pub(super) fn new(key: &str, arguments: Option<&Bytes>) -> Self {
        let inline = if arguments.is_none() { Self::inline(key.as_bytes()) } else { None };
        inline.unwrap_or_else(|| Self::Apart {
            bytes: Bytes::copy_from_slice(key.as_bytes()),
            arguments: arguments.cloned(),
        })
    }

    fn inline(key: &[u8]) -> Option<Self> {
        let mut bytes = [0; INLINE];
        bytes.get_mut(..key.len())?.copy_from_slice(key);
        Some(Self::Inline { len: u8::try_from(key.len()).ok()?, bytes })
    }

    /// A key and a result that the record does not hold itself; `None` if it does.
    pub(super) fn apart(key: &str, result: &[u8]) -> Option<Bytes> {
        let fits = key.len() + result.len() <= INLINE;
        (!fits).then(|| [key.as_bytes(), result].concat().into())
    }

    /// Puts a key and its result, made by [`apart`](Self::apart), in the place of a key.
    pub(super) fn replace(&mut self, key_and_result: Bytes) {
        match self {
            Self::Inline { .. } => *self = Self::Apart { bytes: key_and_result, arguments: None },
            Self::Apart { bytes, .. } => *bytes = key_and_result,
        }
    }

    /// Adds a result to a key, if [`apart`](Self::apart) has found that it fits beside it.
    pub(super) fn append(&mut self, result: &[u8]) {
        let (len, bytes) = match self {
            Self::Inline { len, bytes } => (len, bytes),
            Self::Apart { bytes, .. } => {
                *bytes = [bytes, result].concat().into();
                return;
            }
        };
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
            Self::Apart { bytes, .. } => bytes,
        }
    }

    pub(super) const fn arguments(&self) -> Option<&Bytes> {
        match self {
            Self::Inline { .. } => None,
            Self::Apart { arguments, .. } => arguments.as_ref(),
        }
    }

    /// The bytes from `start` on: copied if they are inside the record, shared if they are apart.
    pub(super) fn tail(&self, start: usize) -> Bytes {
        match self {
            Self::Inline { .. } => Bytes::copy_from_slice(self.bytes().get(start..).unwrap_or_default()),
            Self::Apart { bytes, .. } => bytes.slice(start..),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_every_length() {
        let text = "k".repeat(300);
        let arguments = Bytes::from_static(b"{}");
        let result: Vec<u8> = (0..=255).cycle().take(300).collect();
        for key_len in 1..text.len() {
            assert_eq!(Packed::new(&text[..key_len], None).bytes(), &text.as_bytes()[..key_len]);
            for (result_len, arguments) in (0..result.len()).flat_map(|len| [(len, None), (len, Some(&arguments))]) {
                let (key, result) = (&text[..key_len], &result[..result_len]);
                let mut packed = Packed::new(key, arguments);
                match Packed::apart(key, result) {
                    Some(apart) => packed.replace(apart),
                    None => packed.append(result),
                }
                assert_eq!(packed.bytes(), [key.as_bytes(), result].concat());
                assert_eq!(packed.tail(key_len), result);
                assert_eq!(packed.arguments(), arguments);
                let inline = key_len + result_len <= INLINE && arguments.is_none();
                assert_eq!(matches!(packed, Packed::Inline { .. }), inline);
            }
        }
    }
}
