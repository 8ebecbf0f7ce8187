//! The order of the entries of maps and sets.

use std::cmp::Ordering;

use super::encoder::tag;
use crate::buffer::{Buffer, copy};

/// The place in the buffer of an entry of an open map or set. An element of a set is an entry without a value.
pub(super) struct Entry {
    /// The first eight bytes that are compared: for most keys the only ones that need to be looked at.
    head: u64,
    pub(super) start: usize,
    /// The start of the compared part of the key: behind the length, if the key is a string.
    content: usize,
    key_end: usize,
    pub(super) end: usize,
}

impl Entry {
    /// The entry that starts with the key `name`, which was written at `start`.
    #[inline]
    pub(super) fn with_name(name: &str, start: usize, end: usize) -> Self {
        Self { head: head(tag::STRING, name.as_bytes()), start, content: end - name.len(), key_end: end, end }
    }

    /// The entry that starts with the key that was written last, at `start`.
    pub(super) fn with_key(buffer: &Buffer, start: usize) -> Self {
        let end = buffer.len();
        let (content, head) = match buffer.get(start, end) {
            [tag::STRING, rest @ ..] => {
                let length = rest.iter().take_while(|byte| **byte >= 0x80).count() + 1;
                (start + 1 + length, head(tag::STRING, rest.get(length..).unwrap_or_default()))
            }
            [tag, rest @ ..] => (start, head(*tag, rest)),
            [] => (start, 0),
        };
        Self { head, start, content, key_end: end, end }
    }

    /// Ascending by key, then by value: entries with the same key are all kept, and their order does not matter.
    #[inline]
    fn compare(&self, other: &Self, buffer: &Buffer) -> Ordering {
        self.head.cmp(&other.head).then_with(|| self.compare_rest(other, buffer))
    }

    fn compare_rest(&self, other: &Self, buffer: &Buffer) -> Ordering {
        let key = |entry: &Self| buffer.get(entry.content, entry.key_end);
        let value = |entry: &Self| buffer.get(entry.key_end, entry.end);
        key(self).cmp(key(other)).then_with(|| value(self).cmp(value(other)))
    }
}

/// The tag and up to seven bytes, so that comparing numbers compares the bytes.
#[inline]
fn head(tag: u8, content: &[u8]) -> u64 {
    let mut head = [0; 8];
    let [first, others @ ..] = &mut head;
    *first = tag;
    if let Some(content) = content.first_chunk() {
        *others = *content;
    } else {
        copy(others.get_mut(..content.len()).unwrap_or_default(), content);
    }
    u64::from_be_bytes(head)
}

/// The last orders, for the next struct of the same type: its fields come in the same order again, and to see that
/// takes less time than to sort them.
#[derive(Default)]
pub(super) struct Orders([Vec<usize>; 8]);

impl Orders {
    /// The indices of `entries` in ascending order; `None` if they are in order already.
    #[inline]
    pub(super) fn of(&mut self, entries: &[Entry], buffer: &Buffer) -> Option<&[usize]> {
        if entries.is_sorted_by(|a, b| a.compare(b, buffer).is_le()) {
            return None;
        }
        let compare = |a: usize, b: usize| match (entries.get(a), entries.get(b)) {
            (Some(a), Some(b)) => a.compare(b, buffer),
            _ => Ordering::Equal,
        };
        let order = self.0.get_mut(entries.len() % 8)?;
        if order.len() != entries.len() || !order.is_sorted_by(|a, b| compare(*a, *b).is_le()) {
            order.clear();
            order.extend(0..entries.len());
            order.sort_unstable_by(|a, b| compare(*a, *b));
        }
        Some(order)
    }

    pub(super) fn capacity(&self) -> usize {
        self.0.iter().map(Vec::capacity).sum()
    }
}
