//! Keys: what identifies a call within an operation.
//!
//! A key is written as printable ASCII that can be read, and that no other value of its type shares. Strings stand for
//! themselves, integers and booleans are marked with `~`, the parts of a tuple are separated by commas, the holes of a
//! template stand in parentheses:
//!
//! | key | text |
//! |---|---|
//! | `"evt_1"` | `evt_1` |
//! | `17` | `~17` |
//! | `("acme", "evt_1")` | `acme,evt_1` |
//! | `("a,b", true)` | `a%2Cb,~true` |
//! | `"order:{id}"` with an `id` of 17 | `order:(~17)` |
//! | none named: the hash of all arguments | `#` and 64 hexadecimal digits |
//!
//! A key that is `None`, or has a part that is, or that is an empty sequence or a struct without fields as a whole, is
//! [`KeyError::Missing`]: calls without a key would all share one record. [`Fingerprint`] has the grammar.

mod serializer;
#[cfg(test)]
mod tests;
mod text;

use serde::Serialize;

pub(crate) use self::text::operation;
use self::{
    serializer::{Failure, Writer},
    text::Text,
};
use super::{error::KeyError, fingerprint::Fingerprint};
use crate::{
    error::{Error, OperationError},
    store::RecordKey,
};

/// Writes the parts of a key into its one text form: one [`value`](Self::value), or the literals and holes of one
/// template, or one [`fingerprint`](Self::fingerprint).
#[doc(hidden)]
pub struct KeyWriter {
    text: Text,
}

impl KeyWriter {
    /// Writes a whole key: a scalar, a string, a tuple or struct of such.
    ///
    /// # Errors
    ///
    /// If the key is missing, too long, of a kind that identifies nothing, or fails to serialize.
    pub fn value<K: Serialize + ?Sized>(&mut self, key: &K) -> Result<(), KeyError> {
        key.serialize(Writer::whole(&mut self.text)).map_err(|Failure(error)| error)?;
        self.text.check()
    }

    /// Writes literal text of a template.
    ///
    /// # Errors
    ///
    /// If the key gets too long.
    pub fn literal(&mut self, text: &str) -> Result<(), KeyError> {
        self.text.escaped(text)
    }

    /// Writes the value of a template's hole.
    ///
    /// # Errors
    ///
    /// As [`value`](Self::value).
    pub fn hole<K: Serialize + ?Sized>(&mut self, value: &K) -> Result<(), KeyError> {
        self.text.raw("(")?;
        self.value(value)?;
        self.text.raw(")")
    }

    /// Writes the hash of all arguments, the key of an operation that names none.
    ///
    /// # Errors
    ///
    /// If the limit is shorter than a hash.
    pub fn fingerprint(&mut self, fingerprint: &Fingerprint) -> Result<(), KeyError> {
        self.text.raw("#")?;
        self.text.hex(fingerprint.as_bytes())
    }
}

/// The text of a value, as a key has it, within `max_len` bytes.
pub(crate) fn text<K: Serialize + ?Sized>(value: &K, max_len: usize) -> Result<String, KeyError> {
    let mut writer = KeyWriter { text: Text::empty(max_len) };
    writer.value(value)?;
    Ok(writer.text.into_string())
}

/// The record key of an operation and what `write` writes, within `max_key_len` bytes.
pub(crate) fn record_key(
    operation: &str,
    max_key_len: usize,
    write: impl FnOnce(&mut KeyWriter) -> Result<(), KeyError>,
) -> Result<RecordKey, Error> {
    if !(1..=255).contains(&operation.len()) {
        return Err(OperationError::Name.into());
    }
    let mut writer = KeyWriter { text: Text::after_operation(operation, max_key_len) };
    write(&mut writer)?;
    let (text, operation_len) = writer.text.finish();
    Ok(RecordKey::from_encoded(text, operation_len))
}
