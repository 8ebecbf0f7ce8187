//! A byte buffer for many short pieces.

use std::fmt;

/// Like a `Vec<u8>` whose spare room is initialized, so that short pieces can be written without a call each.
#[derive(Default)]
pub(crate) struct Buffer {
    /// The bytes that were written, and spare room.
    bytes: Vec<u8>,
    len: usize,
}

impl Buffer {
    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    pub(crate) const fn capacity(&self) -> usize {
        self.bytes.len()
    }

    /// Forgets what was written from position `len` on.
    pub(crate) fn truncate(&mut self, len: usize) {
        debug_assert!(len <= self.len, "only shorter");
        self.len = len;
    }

    /// Moves all but the first `count` bytes to the start.
    pub(crate) fn remove_first(&mut self, count: usize) {
        self.bytes.copy_within(count..self.len, 0);
        self.len -= count;
    }

    /// The bytes that were written.
    pub(crate) fn as_slice(&self) -> &[u8] {
        self.get(0, self.len)
    }

    /// The bytes that were written from `start` to `end`.
    #[expect(clippy::indexing_slicing, reason = "positions are this buffer's own, and `len` is within `bytes`")]
    pub(crate) fn get(&self, start: usize, end: usize) -> &[u8] {
        &self.bytes[start..end]
    }

    /// Overwrites one byte.
    #[expect(clippy::indexing_slicing, reason = "positions are this buffer's own")]
    pub(crate) fn set(&mut self, position: usize, byte: u8) {
        self.bytes[position] = byte;
    }

    /// Room for `len` more bytes, to be written now.
    #[inline]
    #[expect(clippy::indexing_slicing, reason = "the room has just been made")]
    pub(crate) fn room(&mut self, len: usize) -> &mut [u8] {
        let start = self.len;
        let end = start + len;
        if end > self.bytes.len() {
            self.grow(end);
        }
        self.len = end;
        &mut self.bytes[start..end]
    }

    #[cold]
    fn grow(&mut self, len: usize) {
        self.bytes.resize(len.next_power_of_two().max(1024), 0);
    }

    #[inline]
    pub(crate) fn array<const N: usize>(&mut self, bytes: [u8; N]) {
        self.room(N).copy_from_slice(&bytes);
    }

    /// Appends the first `len` of some bytes: all of them, then cut, which is faster than a copy of varying length.
    #[inline]
    pub(crate) fn prefix<const N: usize>(&mut self, bytes: [u8; N], len: usize) {
        let start = self.len;
        self.array(bytes);
        self.len = start + len.min(N);
    }

    #[inline]
    pub(crate) fn append(&mut self, bytes: &[u8]) {
        copy(self.room(bytes.len()), bytes);
    }
}

impl fmt::Write for Buffer {
    fn write_str(&mut self, piece: &str) -> fmt::Result {
        self.append(piece.as_bytes());
        Ok(())
    }
}

/// `copy_from_slice`, without a call for up to 64 bytes: two moves of a fixed size that may overlap.
#[inline]
pub(crate) fn copy(to: &mut [u8], from: &[u8]) {
    match from.len() {
        16..=32 => ends::<16>(to, from),
        8..16 => ends::<8>(to, from),
        4..8 => ends::<4>(to, from),
        0..4 => to.iter_mut().zip(from).for_each(|(to, from)| *to = *from),
        33..=64 => ends::<32>(to, from),
        _ => to.copy_from_slice(from),
    }
}

#[inline]
fn ends<const N: usize>(to: &mut [u8], from: &[u8]) {
    if let (Some(to), Some(from)) = (to.first_chunk_mut::<N>(), from.first_chunk::<N>()) {
        *to = *from;
    }
    if let (Some(to), Some(from)) = (to.last_chunk_mut::<N>(), from.last_chunk::<N>()) {
        *to = *from;
    }
}
