//! The counts of records and bytes, and their limits.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// The counts of all shards together. They are exact. `Relaxed` suffices: no other memory is ordered by them.
#[derive(Debug)]
pub(super) struct Usage {
    records: AtomicUsize,
    bytes: AtomicUsize,
    max_records: usize,
    max_bytes: usize,
}

impl Usage {
    pub(super) const fn new(max_records: usize, max_bytes: usize) -> Self {
        Self { records: AtomicUsize::new(0), bytes: AtomicUsize::new(0), max_records, max_bytes }
    }

    /// Counts a new record if there is room for it.
    #[must_use]
    pub(super) fn admit(&self, bytes: usize) -> bool {
        if !reserve(&self.records, 1, self.max_records) {
            return false;
        }
        let admitted = reserve(&self.bytes, bytes, self.max_bytes);
        if !admitted {
            self.records.fetch_sub(1, Relaxed);
        }
        admitted
    }

    /// Counts a record whose bytes have changed, beyond the limit if need be: its run has happened.
    pub(super) fn change(&self, before: usize, after: usize) {
        // If the bytes have become fewer, both the difference and the sum wrap around, and the result is right.
        self.bytes.fetch_add(after.wrapping_sub(before), Relaxed);
    }

    /// Counts a record out, with all its bytes.
    pub(super) fn dismiss(&self, bytes: usize) {
        self.records.fetch_sub(1, Relaxed);
        self.bytes.fetch_sub(bytes, Relaxed);
    }

    pub(super) fn records(&self) -> usize {
        self.records.load(Relaxed)
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes.load(Relaxed)
    }
}

fn reserve(count: &AtomicUsize, more: usize, max: usize) -> bool {
    count.fetch_update(Relaxed, Relaxed, |count| count.checked_add(more).filter(|&count| count <= max)).is_ok()
}
