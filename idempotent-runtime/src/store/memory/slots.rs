//! Numbered places in chunks, so that growing moves nothing.

/// The slots of a chunk. It takes some kilobytes: few calls of the allocator, and little idle memory in a small store.
const PER_CHUNK: usize = 16;

/// Places with the numbers from 0 on, each of which can be vacant.
pub(super) struct Slots<T> {
    chunks: Vec<Box<[Option<T>]>>,
    len: usize,
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Self { chunks: Vec::new(), len: 0 }
    }
}

impl<T> Slots<T> {
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// Adds a vacant slot, whose number is what [`len`](Self::len) was.
    pub(super) fn add(&mut self) {
        if self.len == self.chunks.len() * PER_CHUNK {
            self.chunks.push((0..PER_CHUNK).map(|_| None).collect());
        }
        self.len += 1;
    }

    /// The content of a slot.
    pub(super) fn get(&self, slot: u32) -> Option<&T> {
        let slot = slot as usize;
        self.chunks.get(slot / PER_CHUNK)?.get(slot % PER_CHUNK)?.as_ref()
    }

    /// The slot itself.
    pub(super) fn get_mut(&mut self, slot: u32) -> Option<&mut Option<T>> {
        let slot = slot as usize;
        self.chunks.get_mut(slot / PER_CHUNK)?.get_mut(slot % PER_CHUNK)
    }
}
