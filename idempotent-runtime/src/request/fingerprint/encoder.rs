//! The bytes that are hashed, and the order they are brought into.

use std::{cell::Cell, mem};

use serde::Serialize;

use super::{
    order::{Entry, Orders},
    serializer::Reason,
    sha256::Sha256,
};
use crate::buffer::{self, Buffer};

/// The deepest nesting of values. A value that JSON text can hold (127 levels) passes as an argument.
pub(crate) const MAX_DEPTH: u8 = 128;

/// The first byte of every encoding.
const VERSION: u8 = 1;

/// From this many bytes on, what can no longer move goes to the hash.
const CHUNK: usize = 4 * 1024;

/// An encoder that has grown beyond this is not kept for the next call.
const MAX_KEPT: usize = 256 * 1024;

/// The first byte of each kind of value.
pub(super) mod tag {
    pub(crate) const END: u8 = 0x00;
    pub(crate) const UNIT: u8 = 0x01;
    pub(crate) const NONE: u8 = 0x02;
    pub(crate) const SOME: u8 = 0x03;
    pub(crate) const FALSE: u8 = 0x04;
    pub(crate) const TRUE: u8 = 0x05;
    pub(crate) const CHAR: u8 = 0x06;
    pub(crate) const FLOAT: u8 = 0x07;
    pub(crate) const STRING: u8 = 0x08;
    pub(crate) const BYTES: u8 = 0x09;
    pub(crate) const SEQUENCE: u8 = 0x0a;
    pub(crate) const SET: u8 = 0x0b;
    pub(crate) const MAP: u8 = 0x0c;
    pub(crate) const UNIT_VARIANT: u8 = 0x0d;
    pub(crate) const VARIANT: u8 = 0x0e;
    /// Plus the number of bytes that follow, 0 to 16.
    pub(crate) const NATURAL: u8 = 0x10;
    /// Plus the number of bytes that follow, 0 to 16.
    pub(crate) const NEGATIVE: u8 = 0x30;
}

thread_local! {
    /// Kept from one call to the next, so that none needs to allocate.
    static KEPT: Cell<Option<Box<Encoder>>> = const { Cell::new(None) };
}

/// Collects an encoding and hashes it.
pub(super) struct Encoder {
    buffer: Buffer,
    /// The entries that wait to be brought into order.
    unsorted: Buffer,
    /// The entries of all open maps and sets, those of the innermost last.
    entries: Vec<Entry>,
    orders: Orders,
    /// The number of open maps and sets. While there is one, the bytes in the buffer may still move.
    unordered: u8,
    depth: u8,
    /// A `Serialize` may go on after a part of it has failed; what it has written then means nothing.
    failed: Option<Reason>,
    hash: Sha256,
}

impl Encoder {
    pub(super) fn new() -> Box<Self> {
        // A `Serialize` that makes fingerprints itself finds none kept, nor does a thread that is ending.
        let mut encoder = KEPT.try_with(Cell::take).ok().flatten().unwrap_or_else(|| {
            Box::new(Self {
                buffer: Buffer::default(),
                unsorted: Buffer::default(),
                entries: Vec::new(),
                orders: Orders::default(),
                unordered: 0,
                depth: 0,
                failed: None,
                hash: Sha256::START,
            })
        });
        encoder.buffer.array([VERSION]);
        encoder
    }

    /// An encoder in which the map of arguments is open.
    pub(super) fn with_arguments() -> Box<Self> {
        let mut encoder = Self::new();
        encoder.tag(tag::MAP);
        encoder
    }

    /// Writes an entry of the map of arguments. The names are in order already, so the map does not count as
    /// unordered.
    pub(super) fn argument<T: Serialize + ?Sized>(&mut self, name: &str, value: &T) -> Result<(), Reason> {
        self.string(tag::STRING, name.as_bytes());
        value.serialize(&mut *self)?;
        self.drain();
        self.failed.map_or(Ok(()), Err)
    }

    pub(super) fn end_arguments(&mut self) {
        self.tag(tag::END);
    }

    /// The hash of what was written.
    pub(super) fn finish(mut self: Box<Self>) -> Result<[u8; 32], Reason> {
        if let Some(reason) = self.failed {
            return Err(reason);
        }
        let hash = self.hash.finish(&mut self.buffer);
        if self.capacity() <= MAX_KEPT {
            // Fails only while the thread ends. After an error nothing is kept: only a finished encoder is a fresh one.
            let _ = KEPT.try_with(|kept| kept.set(Some(self)));
        }
        Ok(hash)
    }

    fn capacity(&self) -> usize {
        let entries = self.entries.capacity() * size_of::<Entry>() + self.orders.capacity() * size_of::<usize>();
        self.buffer.capacity() + self.unsorted.capacity() + entries
    }

    /// The encoding, if it was too short for parts of it to have gone to the hash.
    #[cfg(test)]
    pub(super) fn as_bytes(&self) -> &[u8] {
        self.buffer.as_slice()
    }

    /// Hashes what is in the buffer, if it is much and can no longer move.
    pub(super) fn drain(&mut self) {
        if self.buffer.len() >= CHUNK && self.unordered == 0 {
            self.hash.update(&mut self.buffer);
        }
    }

    /// Writes a part of a value.
    pub(super) fn part<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Reason> {
        value.serialize(&mut *self).inspect_err(|reason| self.failed = Some(*reason))
    }

    /// Goes one level deeper.
    pub(super) fn enter(&mut self) -> Result<(), Reason> {
        if self.depth == MAX_DEPTH {
            return Err(Reason("it is nested more than 128 levels deep"));
        }
        self.depth += 1;
        Ok(())
    }

    pub(super) fn leave(&mut self) {
        self.depth -= 1;
    }

    #[inline]
    pub(super) fn tag(&mut self, tag: u8) {
        self.buffer.array([tag]);
    }

    #[inline]
    pub(super) fn bytes<const N: usize>(&mut self, bytes: [u8; N]) {
        self.buffer.array(bytes);
    }

    /// `base` plus the number of significant bytes, and these, the least significant first.
    #[inline]
    pub(super) fn integer(&mut self, base: u8, magnitude: u64) {
        let len = significant(u64::BITS - magnitude.leading_zeros());
        let [b0, b1, b2, b3, b4, b5, b6, b7] = magnitude.to_le_bytes();
        self.buffer.prefix([base + len, b0, b1, b2, b3, b4, b5, b6, b7], 1 + usize::from(len));
    }

    /// Writes an integer of 128 bits.
    pub(super) fn long_integer(&mut self, base: u8, magnitude: u128) {
        let len = significant(u128::BITS - magnitude.leading_zeros());
        self.tag(base + len);
        self.buffer.prefix(magnitude.to_le_bytes(), usize::from(len));
    }

    /// A tag, a length and as many bytes.
    #[inline]
    pub(super) fn string(&mut self, tag: u8, content: &[u8]) {
        if content.len() < 0x80 {
            if let [to_tag, to_len, to @ ..] = self.buffer.room(content.len() + 2) {
                *to_tag = tag;
                *to_len = low_byte(content.len());
                buffer::copy(to, content);
            }
        } else {
            self.long_string(tag, content);
        }
    }

    #[cold]
    fn long_string(&mut self, tag: u8, content: &[u8]) {
        self.tag(tag);
        self.length(content.len());
        if self.unordered == 0 {
            stream(content, &mut self.buffer, &mut self.hash);
        } else {
            self.buffer.append(content);
        }
    }

    /// Seven bits a byte, the lowest first, the top bit set in all but the last.
    fn length(&mut self, len: usize) {
        let mut rest = len;
        while rest >= 0x80 {
            self.tag(low_byte(rest) | 0x80);
            rest >>= 7;
        }
        self.tag(low_byte(rest));
    }

    /// A string in pieces. Its length goes before it, and is known after it.
    pub(super) fn pieces(&mut self, write: impl FnOnce(&mut Buffer) -> Result<(), Reason>) -> Result<(), Reason> {
        let start = self.buffer.len();
        self.bytes([tag::STRING, 0]);
        write(&mut self.buffer)?;
        let content = self.buffer.len() - (start + 2);
        if content < 0x80 {
            self.buffer.set(start + 1, low_byte(content));
        } else {
            self.unsorted.append(self.buffer.get(start + 2, start + 2 + content));
            self.buffer.truncate(start + 1);
            self.length(content);
            self.buffer.append(self.unsorted.as_slice());
            self.unsorted.truncate(0);
        }
        Ok(())
    }

    /// Opens a map or a set.
    pub(super) fn open(&mut self, tag: u8) -> Result<Unordered, Reason> {
        self.enter()?;
        self.tag(tag);
        self.unordered += 1;
        Ok(Unordered { first: self.entries.len() })
    }

    /// Writes the key of the next entry: the name of a field.
    #[inline]
    pub(super) fn name(&mut self, name: &str) {
        let start = self.buffer.len();
        self.string(tag::STRING, name.as_bytes());
        self.entries.push(Entry::with_name(name, start, self.buffer.len()));
    }

    /// Writes the key of the next entry of a map, or an element of a set, which is an entry without a value.
    pub(super) fn key<K: Serialize + ?Sized>(&mut self, key: &K) -> Result<(), Reason> {
        let start = self.buffer.len();
        self.part(key)?;
        self.entries.push(Entry::with_key(&self.buffer, start));
        Ok(())
    }

    /// Writes the value of the entry whose key was written last.
    #[inline]
    pub(super) fn value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Reason> {
        self.part(value)?;
        if let Some(entry) = self.entries.last_mut() {
            entry.end = self.buffer.len();
        }
        Ok(())
    }

    /// Closes a map or a set: brings its entries into order.
    pub(super) fn close(&mut self, Unordered { first }: Unordered) {
        self.unordered -= 1;
        self.arrange(first);
        self.entries.truncate(first);
        self.leave();
        self.tag(tag::END);
    }

    fn arrange(&mut self, first: usize) {
        let Self { buffer, unsorted, entries, orders, hash, unordered, .. } = self;
        let entries = entries.get(first..).unwrap_or_default();
        let Some(order) = orders.of(entries, buffer) else { return };
        let Some(base) = entries.first().map(|entry| entry.start) else { return };
        if *unordered == 0 {
            // Nothing around it can move. What lies before it changes places with it, and its entries go straight to
            // the hash.
            unsorted.append(buffer.get(0, base));
            mem::swap(buffer, unsorted);
            for entry in order.iter().filter_map(|index| entries.get(*index)) {
                stream(unsorted.get(entry.start, entry.end), buffer, hash);
            }
        } else {
            unsorted.append(buffer.get(base, buffer.len()));
            buffer.truncate(base);
            for entry in order.iter().filter_map(|index| entries.get(*index)) {
                buffer.append(unsorted.get(entry.start - base, entry.end - base));
            }
        }
        unsorted.truncate(0);
    }
}

/// Appends what will not move, and hashes what has become much.
#[inline]
fn stream(content: &[u8], buffer: &mut Buffer, hash: &mut Sha256) {
    for piece in content.chunks(CHUNK) {
        buffer.append(piece);
        if buffer.len() >= CHUNK {
            hash.update(buffer);
        }
    }
}

/// A map or set that is being written, by the index of its first entry.
pub(super) struct Unordered {
    first: usize,
}

/// The number of bytes that hold so many bits: at most 16.
const fn significant(bits: u32) -> u8 {
    low_byte(bits.div_ceil(8) as usize)
}

const fn low_byte(number: usize) -> u8 {
    let [low, ..] = number.to_le_bytes();
    low
}
