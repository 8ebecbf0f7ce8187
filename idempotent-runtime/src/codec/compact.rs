//! The compact form of a value: JSON as tagged bytes, for results that only this process reads.
//!
//! What may be a result is the same on every store, and JSON decides it. So this form holds what the JSON of a value holds, and a
//! type that reads it is told exactly what `serde_json` would tell it. Whatever is not plain in that respect has no compact form,
//! and is kept as JSON: integers beyond 64 bits, bytes, maps whose keys are numbers, raw JSON, text nested too deeply, what fails.
//!
//! All tags and numbers are below 0x80, so that the form is UTF-8 as a whole, and is looked at once.

mod json;
mod reader;
#[cfg(test)]
mod tests;
mod writer;

use std::{cell::Cell, sync::OnceLock};

use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, de::DeserializeOwned};

pub(crate) use self::json::{of_json, to_json};
use self::{reader::Reader, writer::Writer};
use crate::{Fingerprint, buffer::Buffer};

/// The first byte. JSON does not begin with it.
const MARK: u8 = 0x01;

/// The JSON of a value is at most so many times longer than its compact form: a control character is `\u0001` in JSON.
const JSON_PER_BYTE: usize = 6;

/// The deepest nesting, as JSON counts it: `serde_json` reads up to 127 levels of brackets.
const MAX_DEPTH: u8 = 127;

/// A buffer that has grown beyond this is not kept for the next call.
const MAX_KEPT: usize = 64 * 1024;

/// The first byte of each kind of value.
mod tag {
    pub(super) const END: u8 = 0x00;
    pub(super) const NULL: u8 = 0x02;
    pub(super) const FALSE: u8 = 0x03;
    pub(super) const TRUE: u8 = 0x04;
    /// The bits, in ten groups of seven.
    pub(super) const F64: u8 = 0x05;
    /// The bits, in five groups.
    pub(super) const F32: u8 = 0x06;
    pub(super) const SEQUENCE: u8 = 0x07;
    pub(super) const MAP: u8 = 0x08;
    /// Plus the number of groups that follow, 0 to 10.
    pub(super) const NATURAL: u8 = 0x10;
    /// Plus the number of groups that follow: -1 - n.
    pub(super) const NEGATIVE: u8 = 0x20;
    /// Plus the number of groups of its length, 0 to 10: a string that JSON writes with escapes.
    pub(super) const ESCAPED: u8 = 0x30;
    /// Plus the number of groups of its length: another string.
    pub(super) const PLAIN: u8 = 0x40;
    /// Plus its length, 0 to 31: a short string without escapes.
    pub(super) const SHORT: u8 = 0x60;
}

thread_local! {
    /// Kept from one call to the next, so that none needs to allocate.
    static KEPT: Cell<Option<Buffer>> = const { Cell::new(None) };
}

/// Tells whether bytes are of this form.
pub(super) fn is_compact(bytes: &[u8]) -> bool {
    bytes.first() == Some(&MARK)
}

/// Gives the compact form of a value that comes back from it, if its JSON surely has at most `max_len` bytes. Of others, JSON decides.
pub(super) fn encode<T: Serialize + DeserializeOwned>(value: &T, max_len: usize) -> Option<Bytes> {
    if !numbers_are_plain() {
        return None;
    }
    let mut buffer = KEPT.try_with(Cell::take).ok().flatten().unwrap_or_default();
    let bytes = write(&mut buffer, value).filter(|&len| len.saturating_mul(JSON_PER_BYTE) <= max_len).and_then(|len| {
        let back = read::<T>(buffer.get(0, len))?;
        let comes_back = write(&mut buffer, &back).is_some_and(|_| is_twice(&buffer, len))
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

/// Tells whether the buffer has its first `len` bytes twice, and nothing else.
fn is_twice(buffer: &Buffer, len: usize) -> bool {
    buffer.get(0, len) == buffer.get(len, buffer.len())
}

/// Appends the form of a value, and gives its length.
fn write<T: Serialize>(buffer: &mut Buffer, value: &T) -> Option<usize> {
    let start = buffer.len();
    buffer.array([MARK]);
    Writer::new(buffer).whole(value).ok()?;
    Some(buffer.len() - start)
}

/// Reads a value; `None` if the type asks for something that this form does not tell as JSON does.
pub(super) fn read<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    let mut reader = Reader::new(str::from_utf8(bytes.get(1..)?).ok()?);
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
