//! Text under a limit, percent-encoded.

use std::{borrow::Cow, fmt};

use crate::{hex, request::error::KeyError};

/// The text of a record key while it is written.
pub(super) struct Text {
    written: String,
    /// The position at which the key half starts.
    start: usize,
    max: usize,
    /// A `Serialize` may go on after a part of it has failed; what it has written then means nothing.
    failed: Option<KeyError>,
}

impl Text {
    /// Starts with an operation's name; of what follows, `max` bytes are allowed.
    pub(super) fn after_operation(operation: &str, max: usize) -> Self {
        // Room for most keys, so that there is one allocation.
        let mut text = String::with_capacity(operation.len() + 64);
        push_name(&mut text, operation);
        text.push(crate::store::RecordKey::SEPARATOR);
        Self { start: text.len(), written: text, max, failed: None }
    }

    /// Starts with nothing; `max` bytes are allowed.
    pub(super) const fn empty(max: usize) -> Self {
        Self { start: 0, written: String::new(), max, failed: None }
    }

    /// The whole text.
    pub(super) fn into_string(self) -> String {
        self.written
    }

    /// The whole text, and where the operation's name ends.
    pub(super) fn finish(self) -> (String, usize) {
        (self.written, self.start - 1)
    }

    /// The position of the next piece.
    pub(super) fn position(&self) -> usize {
        self.written.len()
    }

    /// The text in a range of positions.
    pub(super) fn written(&self, range: std::ops::Range<usize>) -> &str {
        self.written.get(range).unwrap_or_default()
    }

    /// Replaces what was written since `position` by text that is not longer.
    pub(super) fn replace(&mut self, position: usize, with: &str) {
        self.written.truncate(position);
        self.written.push_str(with);
    }

    /// Makes an error stick, and passes it on.
    pub(super) fn fail(&mut self, error: KeyError) -> KeyError {
        self.failed = Some(error.clone());
        error
    }

    /// Answers the error that stuck, if any.
    pub(super) fn check(&self) -> Result<(), KeyError> {
        self.failed.clone().map_or(Ok(()), Err)
    }

    /// Writes text as it is.
    pub(super) fn raw(&mut self, piece: &str) -> Result<(), KeyError> {
        self.allow(piece.len())?;
        self.written.push_str(piece);
        Ok(())
    }

    /// Puts what was written since `position` in parentheses.
    pub(super) fn enclose(&mut self, position: usize) -> Result<(), KeyError> {
        self.allow(2)?;
        self.written.insert(position, '(');
        self.written.push(')');
        Ok(())
    }

    /// Writes text with all but safe characters percent-encoded.
    pub(super) fn escaped(&mut self, text: &str) -> Result<(), KeyError> {
        self.escaped_but(text, is_safe)
    }

    /// Writes the name of a field, percent-encoded, so that it ends at the first `=`.
    pub(super) fn field_name(&mut self, name: &str) -> Result<(), KeyError> {
        self.escaped_but(name, |byte| is_safe(byte) && byte != b'=')
    }

    fn escaped_but(&mut self, text: &str, safe: impl Fn(u8) -> bool) -> Result<(), KeyError> {
        let mut rest = text;
        while !rest.is_empty() {
            // No byte of a character beyond ASCII is safe, so this is a boundary.
            let (run, others) = rest.split_at(rest.bytes().position(|byte| !safe(byte)).unwrap_or(rest.len()));
            self.raw(run)?;
            let mut others = others.chars();
            if let Some(character) = others.next() {
                self.allow(3 * character.len_utf8())?;
                character.encode_utf8(&mut [0; 4]).bytes().for_each(|byte| push_escaped(&mut self.written, byte));
            }
            rest = others.as_str();
        }
        Ok(())
    }

    /// Writes what `value` displays, percent-encoded.
    pub(super) fn display(&mut self, value: &(impl fmt::Display + ?Sized)) -> Result<(), KeyError> {
        let mut escaping = Escaping { text: self, error: None };
        match fmt::write(&mut escaping, format_args!("{value}")) {
            Ok(()) => Ok(()),
            Err(fmt::Error) => Err(escaping.error.unwrap_or(KeyError::Failed)),
        }
    }

    /// Writes bytes as lower-case hexadecimal digits.
    pub(super) fn hex(&mut self, bytes: &[u8]) -> Result<(), KeyError> {
        self.allow(bytes.len().saturating_mul(2))?;
        self.written.extend(bytes.iter().copied().flat_map(hex::lower));
        Ok(())
    }

    /// Refuses `more` bytes that would go over the limit.
    fn allow(&self, more: usize) -> Result<(), KeyError> {
        let len = (self.written.len() - self.start).saturating_add(more);
        if len > self.max { Err(KeyError::TooLong { len, max: self.max }) } else { Ok(()) }
    }
}

/// Percent-encodes what is formatted into it.
struct Escaping<'a> {
    text: &'a mut Text,
    error: Option<KeyError>,
}

impl fmt::Write for Escaping<'_> {
    fn write_str(&mut self, piece: &str) -> fmt::Result {
        self.text.escaped(piece).map_err(|error| {
            self.error = Some(error);
            fmt::Error
        })
    }
}

/// The name of an operation as record keys have it. A name that was read from one stays as it is.
pub(crate) fn operation(name: &str) -> Cow<'_, str> {
    if name.bytes().all(|byte| is_name(byte) || byte == b'%') {
        return name.into();
    }
    let mut text = String::with_capacity(name.len() + 16);
    push_name(&mut text, name);
    text.into()
}

fn push_name(text: &mut String, name: &str) {
    if name.bytes().all(is_name) {
        text.push_str(name);
    } else {
        for byte in name.bytes() {
            if is_name(byte) { text.push(byte.into()) } else { push_escaped(text, byte) }
        }
    }
}

fn push_escaped(text: &mut String, byte: u8) {
    text.push('%');
    text.extend(hex::upper(byte));
}

/// The characters that names of operations usually consist of; others are percent-encoded.
#[expect(clippy::indexing_slicing, reason = "there is a class for each byte")]
const fn is_name(byte: u8) -> bool {
    CLASSES[byte as usize] & NAME != 0
}

/// The characters that stand for themselves in strings: nothing that marks, separates or encloses, and nothing that is special in Redis
/// patterns and hash tags, or in SQL.
#[expect(clippy::indexing_slicing, reason = "there is a class for each byte")]
const fn is_safe(byte: u8) -> bool {
    CLASSES[byte as usize] & SAFE != 0
}

const NAME: u8 = 1;
const SAFE: u8 = 2;

/// The classes of each byte. A table, since every character of every key is looked at.
#[expect(clippy::indexing_slicing, reason = "there is a class for each byte")]
static CLASSES: [u8; 256] = {
    let mut classes = [0; 256];
    let mut byte = 0_u8;
    while byte < 0x80 {
        let is_name = byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b':' | b'-');
        let is_safe = is_name || matches!(byte, b'@' | b'/' | b'+' | b'=');
        classes[byte as usize] = if is_name { NAME } else { 0 } | if is_safe { SAFE } else { 0 };
        byte += 1;
    }
    classes
};
