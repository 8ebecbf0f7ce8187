//! A part of the store: the records whose keys hash to it, found by key and by deadline.

use super::{deadlines::Deadlines, entry::MemoryEntry, slots::Slots};
use crate::store::memory::clock::Moment;

/// The end of a chain. No slot has this number.
const NONE: u32 = u32::MAX;

/// With so many buckets most chains are empty, and a lookup of a vacant key seldom reads another key's record.
const BUCKETS_PER_SLOT: usize = 4;

/// Above this many slots, an empty shard gives its memory back.
const KEPT_SLOTS: usize = 64;

/// A record in its chain: the records whose hashes choose the same bucket.
struct ChainLink {
    hash: u32,
    next: u32,
    entry: MemoryEntry,
}

/// A hash table with short chains through the slots. A lookup fetches the bucket and then the record; a table with open
/// addressing and tags fetches one cache line more. Growing reads the hashes, and need not follow the keys.
///
/// A record stays in its slot for as long as it exists. This makes a listing complete.
#[derive(Default)]
// In this order: what a lookup reads is on the cache line of the lock, which it writes. Two threads pass one line to each other.
#[repr(C)]
pub(super) struct Shard {
    /// The first slot of each chain; a power of two of them.
    buckets: Vec<u32>,
    slots: Slots<ChainLink>,
    vacant: Vec<u32>,
    deadlines: Deadlines,
}

impl Shard {
    /// The slot of a key's record, expired or not.
    pub(super) fn find(&self, hash: u32, key: &str) -> Option<u32> {
        let mut slot = *self.buckets.get(self.bucket(hash))?;
        while let Some(link) = self.link(slot) {
            if link.hash == hash && link.entry.has_key(key) {
                return Some(slot);
            }
            slot = link.next;
        }
        None
    }

    pub(super) fn get(&self, slot: u32) -> Option<&MemoryEntry> {
        self.link(slot).map(|link| &link.entry)
    }

    /// Changes a record, and sets the deadline that it has by then.
    pub(super) fn change(&mut self, slot: u32, change: impl FnOnce(&mut MemoryEntry)) {
        if let Some(Some(ChainLink { entry, .. })) = self.slots.get_mut(slot) {
            change(entry);
            self.deadlines.set(slot, entry.expires());
        }
    }

    /// Adds a record whose key has none; says whether there was a slot.
    #[must_use]
    pub(super) fn insert(&mut self, hash: u32, entry: MemoryEntry) -> bool {
        let Some(slot) = self.vacant.pop().or_else(|| self.add_slot()) else { return false };
        self.deadlines.set(slot, entry.expires());
        let bucket = self.bucket(hash);
        if let (Some(first), Some(vacant)) = (self.buckets.get_mut(bucket), self.slots.get_mut(slot)) {
            *vacant = Some(ChainLink { hash, next: *first, entry });
            *first = slot;
        }
        true
    }

    pub(super) fn remove(&mut self, slot: u32) -> Option<MemoryEntry> {
        let ChainLink { hash, next, entry } = self.slots.get_mut(slot)?.take()?;
        self.unchain(hash, slot, next);
        self.deadlines.remove(slot);
        self.vacant.push(slot);
        if self.vacant.len() == self.slots.len() && self.slots.len() > KEPT_SLOTS {
            *self = Self::default();
        }
        Some(entry)
    }

    /// Removes the record that expired first, if one has.
    pub(super) fn remove_due(&mut self, now: Moment) -> Option<MemoryEntry> {
        self.deadlines.due(now).and_then(|slot| self.remove(slot))
    }

    /// The records from a slot on, with the slot that follows each.
    pub(super) fn entries_from(&self, slot: usize) -> impl Iterator<Item = (usize, &MemoryEntry)> {
        (slot..self.slots.len()).filter_map(|slot| Some((slot + 1, self.get(u32::try_from(slot).ok()?)?)))
    }

    fn link(&self, slot: u32) -> Option<&ChainLink> {
        self.slots.get(slot)
    }

    fn bucket(&self, hash: u32) -> usize {
        hash as usize & self.buckets.len().wrapping_sub(1)
    }

    fn add_slot(&mut self) -> Option<u32> {
        let slot = u32::try_from(self.slots.len()).ok().filter(|&slot| slot != NONE)?;
        self.slots.add();
        if self.slots.len() * BUCKETS_PER_SLOT > self.buckets.len() {
            self.grow();
        }
        Some(slot)
    }

    /// Doubles the buckets and puts all records into their new chains.
    fn grow(&mut self) {
        let len = (self.buckets.len() * 2).max(4 * BUCKETS_PER_SLOT);
        self.buckets = vec![NONE; len];
        for slot in (0..NONE).take(self.slots.len()) {
            let Some(Some(link)) = self.slots.get_mut(slot) else { continue };
            if let Some(first) = self.buckets.get_mut(link.hash as usize & (len - 1)) {
                link.next = std::mem::replace(first, slot);
            }
        }
    }

    /// Takes a slot out of its chain: the link that pointed to it now points to the slot after it.
    fn unchain(&mut self, hash: u32, slot: u32, after: u32) {
        let bucket = self.bucket(hash);
        let Some(first) = self.buckets.get_mut(bucket) else { return };
        if *first == slot {
            *first = after;
            return;
        }
        let mut before = *first;
        while let Some(Some(link)) = self.slots.get_mut(before) {
            if link.next == slot {
                link.next = after;
                return;
            }
            before = link.next;
        }
    }
}

const _: () = assert!(size_of::<Option<ChainLink>>() == 352, "the documentation says so");

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, time::Duration};

    use proptest::prelude::*;

    use super::*;
    use crate::{
        request::fingerprint::Fingerprint,
        store::{ClaimRequest, Nonce, RecordKey, Why, memory::inline_bytes::Beside},
    };

    fn moment(nanos: u64) -> Moment {
        Moment::since_start(Duration::from_nanos(nanos))
    }

    fn entry(number: u32, expires: u64) -> MemoryEntry {
        let key = format!("test|{number}").parse::<RecordKey>().unwrap();
        let request = ClaimRequest::new(
            Fingerprint::from_bytes([0; Fingerprint::LEN]),
            Nonce::from_bytes([0; Nonce::LEN]),
            Duration::ZERO,
            Duration::from_nanos(expires),
        );
        MemoryEntry::new(&key, &request, Beside::NONE, moment(0), 1).unwrap()
    }

    proptest! {
        /// Few hashes make long chains, and the steps remove from every part of them.
        #[test]
        fn agrees_with_a_map(steps in prop::collection::vec((0..60_u32, 1..9_u64, 0..5), 0..500)) {
            let hash = |number: u32| number % 7;
            let (mut shard, mut model) = (Shard::default(), HashMap::new());
            for (number, at, what) in steps {
                let slot = shard.find(hash(number), &format!("test|{number}"));
                prop_assert_eq!(slot.is_some(), model.contains_key(&number));
                match (what, slot) {
                    (0, _) => {
                        let removed = shard.remove_due(moment(at));
                        let first = model.values().min().copied().filter(|&first| first <= at);
                        prop_assert_eq!(removed.as_ref().map(MemoryEntry::expires), first.map(moment));
                        if let Some(removed) = removed {
                            model.retain(|&number, _| !removed.has_key(&format!("test|{number}")));
                        }
                    }
                    (1, Some(slot)) => {
                        shard.change(slot, |entry| _ = entry.suspend(Why::Abandoned, moment(0), moment(0), Duration::from_nanos(at)));
                        model.insert(number, at);
                    }
                    (_, Some(slot)) => {
                        let removed = shard.remove(slot).map(|entry| entry.has_key(&format!("test|{number}")));
                        prop_assert_eq!(removed, Some(true));
                        model.remove(&number);
                    }
                    (_, None) => {
                        prop_assert!(shard.insert(hash(number), entry(number, at)));
                        model.insert(number, at);
                    }
                }
                prop_assert_eq!(shard.entries_from(0).count(), model.len());
            }
        }
    }

    #[test]
    fn an_empty_shard_gives_its_memory_back() {
        let mut shard = Shard::default();
        for number in 0..1000 {
            assert!(shard.insert(number, entry(number, 1)));
        }
        while shard.remove_due(moment(1)).is_some() {}
        assert_eq!((shard.slots.len(), shard.buckets.capacity(), shard.vacant.capacity()), (0, 0, 0));
    }
}
