//! The order in which records expire: a heap whose members can be moved and removed.

use crate::store::memory::clock::Moment;

/// The number of children of a node. They lie together in memory: a wide node costs one cache miss, a deep heap costs many.
const CHILDREN: usize = 8;

/// The position of a slot that is not in the heap.
const NOWHERE: u32 = u32::MAX;

#[derive(Clone, Copy)]
struct Node {
    at: Moment,
    slot: u32,
}

/// The deadlines of numbered slots, at most one each.
///
/// It takes constant time to set a deadline that is later than most, as a new record's is. It takes logarithmic time to set
/// another one.
#[derive(Default)]
pub(super) struct Deadlines {
    heap: Vec<Node>,
    /// The position in the heap of each slot's deadline.
    positions: Vec<u32>,
}

#[expect(clippy::indexing_slicing, reason = "positions below `heap.len()`, and slots that are in the heap")]
impl Deadlines {
    /// Sets or moves the deadline of a slot.
    pub(super) fn set(&mut self, slot: u32, at: Moment) {
        if self.positions.len() <= slot as usize {
            self.positions.resize(slot as usize + 1, NOWHERE);
        }
        let position = self.positions[slot as usize];
        if position == NOWHERE {
            self.heap.push(Node { at, slot });
            self.rise(self.heap.len() - 1);
        } else {
            let earlier = at < self.heap[position as usize].at;
            self.heap[position as usize].at = at;
            if earlier {
                self.rise(position as usize);
            } else {
                self.sink(position as usize);
            }
        }
    }

    /// Removes the deadline of a slot, if it has one.
    pub(super) fn remove(&mut self, slot: u32) {
        let Some(position) = self.positions.get_mut(slot as usize) else { return };
        let position = std::mem::replace(position, NOWHERE);
        if position == NOWHERE {
            return;
        }
        self.heap.swap_remove(position as usize);
        if (position as usize) < self.heap.len() {
            // The last node fills the gap, and may belong above or below it.
            let risen = self.rise(position as usize);
            self.sink(risen);
        }
    }

    /// The slot whose deadline is first, if that has come.
    pub(super) fn due(&self, now: Moment) -> Option<u32> {
        self.heap.first().filter(|node| node.at <= now).map(|node| node.slot)
    }

    /// Moves a node up until its parent is not later, and returns its position.
    fn rise(&mut self, mut position: usize) -> usize {
        let node = self.heap[position];
        while position > 0 {
            let parent = (position - 1) / CHILDREN;
            if self.heap[parent].at <= node.at {
                break;
            }
            self.place(position, self.heap[parent]);
            position = parent;
        }
        self.place(position, node);
        position
    }

    /// Moves a node down until no child is earlier.
    fn sink(&mut self, mut position: usize) {
        let node = self.heap[position];
        loop {
            let first = position * CHILDREN + 1;
            let children = first..(first + CHILDREN).min(self.heap.len());
            let Some(child) = children.min_by_key(|&child| self.heap[child].at) else { break };
            if self.heap[child].at >= node.at {
                break;
            }
            self.place(position, self.heap[child]);
            position = child;
        }
        self.place(position, node);
    }

    fn place(&mut self, position: usize, node: Node) {
        self.heap[position] = node;
        #[expect(clippy::cast_possible_truncation, reason = "there is one node a slot, and slots are `u32`")]
        let narrow = position as u32;
        self.positions[node.slot as usize] = narrow;
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, time::Duration};

    use proptest::prelude::*;

    use super::*;

    fn moment(nanos: u64) -> Moment {
        Moment::since_start(Duration::from_nanos(nanos))
    }

    proptest! {
        #[test]
        fn agrees_with_a_map(steps in prop::collection::vec((0..40_u32, prop::option::of(0..30_u64)), 0..400)) {
            let mut deadlines = Deadlines::default();
            let mut model = BTreeMap::new();
            for (slot, at) in steps {
                if let Some(at) = at {
                    deadlines.set(slot, moment(at));
                    model.insert(slot, at);
                } else {
                    deadlines.remove(slot);
                    model.remove(&slot);
                }
                for now in 0..30 {
                    let due = deadlines.due(moment(now));
                    let first = model.values().min().copied().filter(|&at| at <= now);
                    prop_assert_eq!(due.map(|slot| model[&slot]), first);
                }
            }
            while let Some(slot) = deadlines.due(moment(u64::MAX)) {
                prop_assert_eq!(model.get(&slot), model.values().min());
                deadlines.remove(slot);
                model.remove(&slot);
            }
            prop_assert!(model.is_empty());
        }
    }
}
