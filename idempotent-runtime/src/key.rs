//! Keys: what identifies a call within an operation.

use serde::Serialize;

use crate::{error::KeyError, fingerprint::Fingerprint, record::RecordKey};

/// Writes the parts of a key into its one text form.
pub struct KeyWriter {
    text: String,
}

impl KeyWriter {
    /// Writes a whole key: a scalar, a string, a tuple of such.
    pub fn value<K: Serialize + ?Sized>(&mut self, key: &K) -> Result<(), KeyError> {
        let _ = key;
        self.text.push('k');
        Ok(())
    }

    /// Writes literal text of a template.
    pub fn literal(&mut self, text: &str) -> Result<(), KeyError> {
        self.text.push_str(text);
        Ok(())
    }

    /// Writes the value of a template's hole.
    pub fn hole<K: Serialize + ?Sized>(&mut self, value: &K) -> Result<(), KeyError> {
        self.value(value)
    }

    /// Writes the hash of all arguments, the key of an operation that names none.
    pub fn fingerprint(&mut self, fingerprint: &Fingerprint) -> Result<(), KeyError> {
        let _ = fingerprint;
        Ok(())
    }
}

/// The record key of an operation and what `write` writes, within `max_key_len` bytes.
pub(crate) fn record_key(
    operation: &str,
    max_key_len: usize,
    write: impl FnOnce(&mut KeyWriter) -> Result<(), KeyError>,
) -> Result<RecordKey, KeyError> {
    let _ = max_key_len;
    let mut writer = KeyWriter { text: format!("{operation}|") };
    write(&mut writer)?;
    Ok(RecordKey::from_encoded(writer.text, operation.len()))
}
