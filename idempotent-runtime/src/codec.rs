//! Results as bytes: JSON that comes back the same, or not at all. Results that only this process reads have a [compact] form.

pub(crate) mod compact;
mod faithful;
mod same;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use bytes::Bytes;
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

/// Gives the value as JSON, unless JSON would change it. For values that are read by another function than the one that has them.
pub(crate) fn json<T: Serialize + ?Sized>(value: &T) -> serde_json::Result<Vec<u8>> {
    let mut json = Vec::new();
    faithful::write(&mut json, value)?;
    Ok(json)
}

/// Gives a value for a record that only this process reads, as [`encode`] does, in the compact form if it has one, and if its JSON
/// has at most `max_len` bytes.
pub(crate) fn encode_here<T: Serialize + DeserializeOwned>(value: &T, max_len: usize) -> Result<Bytes, NotFaithful> {
    match compact::encode(value, max_len) {
        Some(bytes) => Ok(bytes),
        None => encode(value).map(Bytes::from),
    }
}

/// Decodes what [`encode`] or [`encode_here`] wrote.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, crate::Error> {
    if compact::is_compact(bytes) {
        // What a type does not read from this form, it may read from JSON.
        if let Some(value) = compact::read(bytes) {
            return Ok(value);
        }
        let json = compact::to_json(bytes);
        return decode_json(json.as_deref().unwrap_or(bytes));
    }
    decode_json(bytes)
}

fn decode_json<T: DeserializeOwned>(json: &[u8]) -> Result<T, crate::Error> {
    read(json).map_err(|error| Undecodable::Result(Arc::new(error)).into())
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
