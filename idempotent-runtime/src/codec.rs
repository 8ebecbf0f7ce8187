//! Results as bytes: JSON that comes back the same, or not at all.

mod faithful;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use serde::{Serialize, de::DeserializeOwned};

use crate::error::Undecodable;

/// A value that would not come back from JSON as it went in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotFaithful;

/// The value as JSON, unless it would not come back the same.
///
/// A serializer cannot see everything: fields that are skipped, two keys of a map that have the
/// same text, and untagged enums of which an earlier variant accepts the value.
pub(crate) fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, NotFaithful> {
    faithful::to_vec(value).map_err(|_| NotFaithful)
}

/// The value that [`encode`] wrote.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, crate::Error> {
    // Looked at as a whole, text need not be looked at string by string. What is none is refused where it matters.
    let decoded = match str::from_utf8(bytes) {
        Ok(text) => serde_json::from_str(text),
        Err(_) => serde_json::from_slice(bytes),
    };
    decoded.map_err(|error| Undecodable::Result(Arc::new(error)).into())
}
