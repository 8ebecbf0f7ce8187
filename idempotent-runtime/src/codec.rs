//! Results as bytes: JSON that comes back the same, or not at all.

mod faithful;
mod same;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use serde::{Serialize, de::DeserializeOwned};

use crate::{Fingerprint, error::Undecodable};

/// Why a value is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotFaithful {
    /// It is of a variant that `#[serde(skip)]` leaves out: its author says that it is never stored.
    Skipped,
    /// It has no JSON, or JSON from which another value would come back.
    Changed,
}

/// Gives the value as JSON, unless another value would come back from it.
///
/// The JSON is decoded and encoded again, and compared. What serde does not write, such as a skipped field or the seconds
/// of a time, cannot be compared.
pub(crate) fn encode<T: Serialize + DeserializeOwned>(value: &T) -> Result<Vec<u8>, NotFaithful> {
    let mut json = Vec::new();
    faithful::write(&mut json, value).map_err(|error| {
        // Where something was written before, the variant is a part of a value of which the rest counts.
        let is_skipped = json.is_empty() && is_of_skipped_variant(&error);
        if is_skipped { NotFaithful::Skipped } else { NotFaithful::Changed }
    })?;
    if comes_back(value, &json) { Ok(json) } else { Err(NotFaithful::Changed) }
}

/// Decodes what [`encode`] wrote.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, crate::Error> {
    read(bytes).map_err(|error| Undecodable::Result(Arc::new(error)).into())
}

fn read<T: DeserializeOwned>(bytes: &[u8]) -> serde_json::Result<T> {
    // Looked at as a whole, text need not be looked at string by string. What is none is refused where it matters.
    match str::from_utf8(bytes) {
        Ok(text) => serde_json::from_str(text),
        Err(_) => serde_json::from_slice(bytes),
    }
}

/// Tells whether the value comes back from its JSON. Maps and sets may be written in another order each time, so values
/// with other JSON are compared by their fingerprints.
fn comes_back<T: Serialize + DeserializeOwned>(value: &T, json: &[u8]) -> bool {
    let Ok(back) = read::<T>(json) else { return false };
    same::is_json_of(json, &back)
        || matches!((Fingerprint::of(value), Fingerprint::of(&back)), (Ok(a), Ok(b)) if a == b)
}

/// Recognises the error that serde's derive makes of a skipped variant by its text, which it has no type for
/// (`serialize_variant` in `serde_derive`, `src/ser.rs`).
fn is_of_skipped_variant(error: &serde_json::Error) -> bool {
    let text = error.to_string();
    text.starts_with("the enum variant ") && text.ends_with(" cannot be serialized")
}
