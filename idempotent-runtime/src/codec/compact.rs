//! The compact form of a value: JSON as tagged bytes, for results that only this process reads.
//!
//! What may be a result is the same on every store, and JSON decides it. So this form holds what the JSON of a value holds, and a
//! type that reads it is told exactly what `serde_json` would tell it. Whatever is not plain in that respect has no compact form,
//! and is kept as JSON: integers beyond 64 bits, bytes, maps whose keys are numbers, raw JSON, text nested too deeply, what fails.
//!
//! All tags and numbers are printable ASCII. So the form is UTF-8 as a whole, and a look at the whole tells whether JSON would write
//! a string of it with escapes.

#[cfg(any(feature = "local-cache", test))]
mod of_json;
mod reader;
#[cfg(test)]
mod tests;
mod to_json;
mod writer;

use std::{cell::Cell, sync::OnceLock};

use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, de::DeserializeOwned};

#[cfg(any(feature = "local-cache", test))]
pub(crate) use self::of_json::of_json;
#[cfg(any(feature = "memory", feature = "local-cache"))]
pub(crate) use self::to_json::shown;
pub(crate) use self::to_json::to_json;
use self::{reader::Reader, writer::Writer};
use crate::{Fingerprint, buffer::Buffer};

/// The first byte, where JSON writes no string with escapes. JSON does not begin with it.
const PLAIN: u8 = 0x01;

/// The first byte, where JSON may write a string with escapes. `serde_json` lends such strings to their readers; it lets others be
/// borrowed.
const WITH_ESCAPES: u8 = 0x02;

/// The JSON of a value is at most so many times longer than its compact form: a control character is `\u0001` in JSON.
const JSON_PER_BYTE: usize = 6;

/// The deepest nesting, as JSON counts it: `serde_json` reads up to 127 levels of brackets.
const MAX_DEPTH: u8 = 127;

/// A buffer that has grown beyond this is not kept for the next call.
const MAX_KEPT: usize = 64 * 1024;

/// The first byte of each kind of value. Numbers are in groups of five bits, of which each byte has one.
mod tag {
    pub(super) const END: u8 = 0x20;
    pub(super) const NULL: u8 = 0x21;
    // 0x22 is the quotation mark.
    pub(super) const FALSE: u8 = 0x23;
    pub(super) const TRUE: u8 = 0x24;
    /// The bits, in 13 groups.
    pub(super) const F64: u8 = 0x25;
    /// The bits, in seven groups.
    pub(super) const F32: u8 = 0x26;
    pub(super) const SEQUENCE: u8 = 0x27;
    pub(super) const MAP: u8 = 0x28;
    /// Plus the number of groups that follow, 0 to 13.
    pub(super) const NATURAL: u8 = 0x30;
    pub(super) const LAST_NATURAL: u8 = NATURAL + MOST_GROUPS;
    /// Plus the number of groups that follow: -1 - n.
    pub(super) const NEGATIVE: u8 = 0x40;
    pub(super) const LAST_NEGATIVE: u8 = NEGATIVE + MOST_GROUPS;
    /// Plus the number of groups of its length. Twelve groups would make a backslash; no string is as long.
    pub(super) const STRING: u8 = 0x50;
    pub(super) const LAST_STRING: u8 = STRING + MOST_GROUPS;
    /// Plus its length, 0 to 31. Of these are the bytes of groups, too.
    pub(super) const SHORT: u8 = 0x60;
    pub(super) const LAST_SHORT: u8 = SHORT + 31;

    pub(super) const GROUP_BITS: u32 = 5;
    pub(super) const MOST_GROUPS: u8 = 13;
}

thread_local! {
    /// Kept from one call to the next, so that none needs to allocate.
    static KEPT: Cell<Option<Buffer>> = const { Cell::new(None) };
}

/// Tells whether bytes are of this form.
pub(super) fn is_compact(bytes: &[u8]) -> bool {
    matches!(bytes.first(), Some(&(PLAIN | WITH_ESCAPES)))
}

/// Gives the compact form of a value that comes back from it, if its JSON surely has at most `max_len` bytes. Of others, JSON decides.
pub(super) fn encode<T: Serialize + DeserializeOwned>(value: &T, max_len: usize) -> Option<Bytes> {
    if !numbers_are_plain() {
        return None;
    }
    let mut buffer = KEPT.try_with(Cell::take).ok().flatten().unwrap_or_default();
    let bytes = write(&mut buffer, value).filter(|&len| len.saturating_mul(JSON_PER_BYTE) <= max_len).and_then(|len| {
        let back = read::<T>(buffer.get(0, len))?;
        let comes_back = Writer::new(&mut buffer).whole(&back).is_ok_and(|()| is_twice(&buffer, len))
            || matches!((Fingerprint::of(value), Fingerprint::of(&back)), (Ok(a), Ok(b)) if a == b);
        comes_back.then(|| Bytes::copy_from_slice(buffer.get(0, len)))
    });
    if buffer.capacity() <= MAX_KEPT {
        buffer.truncate(0);
        // Fails only while the thread ends.
        let _ = KEPT.try_with(|kept| kept.set(Some(buffer)));
    }
    bytes
}

/// Tells whether the buffer has its first `len` bytes twice, the mark aside, and nothing else.
fn is_twice(buffer: &Buffer, len: usize) -> bool {
    buffer.get(1, len) == buffer.get(len, buffer.len())
}

/// Writes the form of a value into an empty buffer, and gives its length.
fn write<T: Serialize>(buffer: &mut Buffer, value: &T) -> Option<usize> {
    buffer.array([PLAIN]);
    Writer::new(buffer).whole(value).ok()?;
    mark(buffer);
    Some(buffer.len())
}

/// Sets the mark.
fn mark(buffer: &mut Buffer) {
    if has_escapes(buffer.get(1, buffer.len())) {
        buffer.set(0, WITH_ESCAPES);
    }
}

/// Tells whether JSON would write text with escapes.
#[expect(clippy::needless_bitwise_bool, reason = "a lazy one would be a branch a byte")]
fn has_escapes(text: &[u8]) -> bool {
    // Without an early exit, many bytes are looked at in one instruction.
    text.iter().fold(false, |found, &byte| found | (byte < 0x20) | (byte == b'"') | (byte == b'\\'))
}

/// Reads a value; `None` if the type asks for something that this form does not tell as JSON does.
pub(super) fn read<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    let mut reader = Reader::new(bytes)?;
    let value = T::deserialize(&mut reader).ok()?;
    reader.is_at_end().then_some(value)
}

/// With its feature `arbitrary_precision`, `serde_json` tells numbers in a way of its own to types that take anything.
fn numbers_are_plain() -> bool {
    static ARE_PLAIN: OnceLock<bool> = OnceLock::new();
    *ARE_PLAIN.get_or_init(|| serde_json::from_str::<PlainNumber>("1").is_ok())
}

struct PlainNumber;

impl<'de> Deserialize<'de> for PlainNumber {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = PlainNumber;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an integer")
            }

            fn visit_u64<E>(self, _: u64) -> Result<PlainNumber, E> {
                Ok(PlainNumber)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}
