//! The bytes of a record: its key and its result, one after the other, inside the record if they fit; and what lies beside them.
//!
//! At ten million records nearly every memory access of a hit is a cache miss. A short result therefore lies in the
//! record itself, next to what the lookup reads anyway, and is copied out. Claims, completions and expiry of such records
//! never call the allocator, whose own bookkeeping can stall a call for milliseconds.

use std::sync::Arc;

use bytes::Bytes;

use crate::store::ClaimRequest;

/// The most bytes that a record holds itself.
const INLINE: usize = 246;

pub(super) enum Packed {
    Inline {
        len: u8,
        bytes: [u8; INLINE],
    },
    /// Bytes in an allocation of their own. With something beside them, even short bytes lie here: that is rare, so `Inline`
    /// has no room for a pointer to it.
    Apart {
        bytes: Bytes,
        beside: Beside,
    },
}

/// The request that has the key, and the caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Beside {
    pub(super) arguments: Option<Bytes>,
    pub(super) context: Option<Arc<str>>,
}

impl Beside {
    /// Nothing.
    pub(super) const NONE: Self = Self { arguments: None, context: None };

    pub(super) fn of(request: &ClaimRequest) -> Self {
        Self { arguments: request.arguments.clone(), context: request.context.clone() }
    }

    pub(super) fn len(&self) -> usize {
        self.arguments.as_ref().map_or(0, Bytes::len) + self.context.as_ref().map_or(0, |context| context.len())
    }

    const fn is_none(&self) -> bool {
        self.arguments.is_none() && self.context.is_none()
    }
}

impl Packed {
    /// A key without a result.
    pub(super) fn new(key: &str, beside: Beside) -> Self {
        let inline = if beside.is_none() { Self::inline(key.as_bytes()) } else { None };
        inline.unwrap_or_else(|| Self::Apart { bytes: Bytes::copy_from_slice(key.as_bytes()), beside })
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
            Self::Inline { .. } => *self = Self::Apart { bytes: key_and_result, beside: Beside::NONE },
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

    pub(super) const fn beside(&self) -> &Beside {
        static NONE: Beside = Beside::NONE;
        match self {
            Self::Inline { .. } => &NONE,
            Self::Apart { beside, .. } => beside,
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
        let arguments = Beside { arguments: Some(Bytes::from_static(b"{}")), context: None };
        let context = Beside { arguments: None, context: Some("request 17".into()) };
        let result: Vec<u8> = (0..=255).cycle().take(300).collect();
        for key_len in 1..text.len() {
            assert_eq!(Packed::new(&text[..key_len], Beside::NONE).bytes(), &text.as_bytes()[..key_len]);
            let each = |len| [(len, &Beside::NONE), (len, &arguments), (len, &context)];
            for (result_len, beside) in (0..result.len()).flat_map(each) {
                let (key, result) = (&text[..key_len], &result[..result_len]);
                let mut packed = Packed::new(key, beside.clone());
                match Packed::apart(key, result) {
                    Some(apart) => packed.replace(apart),
                    None => packed.append(result),
                }
                assert_eq!(packed.bytes(), [key.as_bytes(), result].concat());
                assert_eq!(packed.tail(key_len), result);
                assert_eq!(packed.beside(), beside);
                let inline = key_len + result_len <= INLINE && beside.is_none();
                assert_eq!(matches!(packed, Packed::Inline { .. }), inline);
            }
        }
    }
}
