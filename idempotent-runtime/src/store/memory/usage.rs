//! The counts of records and bytes, and their limits.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use crate::engine::events;

/// The counts of all shards together. They are exact. `Relaxed` suffices: no other memory is ordered by them.
#[derive(Debug)]
pub(super) struct Usage {
    records: AtomicUsize,
    held: AtomicUsize,
    bytes: AtomicUsize,
    max_records: usize,
    max_held: usize,
    max_bytes: usize,
}

/// The part of the counts that is one record's.
#[derive(Clone, Copy, Debug)]
pub(super) struct Size {
    pub(super) bytes: usize,
    /// True if the record has no end, and is not done.
    pub(super) is_held: bool,
}

/// The limit that leaves no room for a new record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoRoom {
    /// That of records, or that of bytes.
    Full,
    /// That of held records.
    Held,
}

impl Usage {
    pub(super) const fn new(max_records: usize, max_held: usize, max_bytes: usize) -> Self {
        Self {
            records: AtomicUsize::new(0),
            held: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            max_records,
            max_held,
            max_bytes,
        }
    }

    /// Counts a new record if there is room for it.
    pub(super) fn admit(&self, Size { bytes, is_held }: Size) -> Result<(), NoRoom> {
        if is_held && !reserve(&self.held, 1, self.max_held) {
            return Err(NoRoom::Held);
        }
        if !reserve(&self.records, 1, self.max_records) {
            self.held.fetch_sub(usize::from(is_held), Relaxed);
            return Err(NoRoom::Full);
        }
        if !reserve(&self.bytes, bytes, self.max_bytes) {
            self.held.fetch_sub(usize::from(is_held), Relaxed);
            self.records.fetch_sub(1, Relaxed);
            return Err(NoRoom::Full);
        }
        if is_held {
            events::held(1);
        }
        Ok(())
    }

    /// Counts a record that has changed, beyond the limits if need be: its run has happened.
    pub(super) fn change(&self, before: Size, after: Size) {
        // If the bytes have become fewer, both the difference and the sum wrap around, and the result is right.
        self.bytes.fetch_add(after.bytes.wrapping_sub(before.bytes), Relaxed);
        match (before.is_held, after.is_held) {
            (false, true) => {
                self.held.fetch_add(1, Relaxed);
                events::held(1);
            }
            (true, false) => self.let_go(),
            _ => {}
        }
    }

    /// Counts a record out, with all its bytes.
    pub(super) fn dismiss(&self, Size { bytes, is_held }: Size) {
        self.records.fetch_sub(1, Relaxed);
        self.bytes.fetch_sub(bytes, Relaxed);
        if is_held {
            self.let_go();
        }
    }

    fn let_go(&self) {
        self.held.fetch_sub(1, Relaxed);
        events::held(-1);
    }

    pub(super) fn records(&self) -> usize {
        self.records.load(Relaxed)
    }

    pub(super) fn held(&self) -> usize {
        self.held.load(Relaxed)
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes.load(Relaxed)
    }
}

/// The gauge is that of all stores: what this one has held goes with it.
impl Drop for Usage {
    fn drop(&mut self) {
        let held = i32::try_from(self.held()).unwrap_or(i32::MAX);
        if held > 0 {
            events::held(-held);
        }
    }
}

fn reserve(count: &AtomicUsize, more: usize, max: usize) -> bool {
    count.fetch_update(Relaxed, Relaxed, |count| count.checked_add(more).filter(|&count| count <= max)).is_ok()
}
