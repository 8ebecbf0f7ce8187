//! Results as bytes: JSON that comes back the same, or not at all.

use serde::{Serialize, de::DeserializeOwned};

/// A value that would not come back from JSON as it went in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotFaithful;

pub(crate) fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, NotFaithful> {
    serde_json::to_vec(value).map_err(|_| NotFaithful)
}

pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, crate::Error> {
    serde_json::from_slice(bytes).map_err(|error| crate::error::Undecodable::Result(std::sync::Arc::new(error)).into())
}
