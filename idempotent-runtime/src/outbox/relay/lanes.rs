//! The messages that a relay has in hand, in a queue for each key.
//!
//! What waits here was read in the order of insertion. A batch takes the first message of a lane and no other, so that a
//! lane's next one goes only after the broker has confirmed the one before. If that fails, the whole lane is put down and read anew
//! later: so there is no second order beside that of the table.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
};

use tokio::time::Instant;

use crate::{
    Backoff,
    engine::LONGEST,
    outbox::{OutboxMessage, rows::OutboxRow},
};

/// The most messages of a lane in hand. A key with many messages so leaves room for others.
const MAX_LANE_LEN: usize = 8;

/// The most lanes that rest at a time. While the broker is away, those are tried again, and no others.
const MAX_RESTING: usize = 10_000;

/// The owner of an order: a key, or a message without one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Lane {
    Key(Arc<str>),
    Row(i64),
}

impl Lane {
    fn of(row: &OutboxRow) -> Self {
        row.message.key.as_deref().map_or(Self::Row(row.seq), |key| Self::Key(key.into()))
    }
}

/// A message of a batch that is with the broker.
#[derive(Debug)]
pub(super) struct Sent {
    pub(super) seq: i64,
    lane: Lane,
}

/// The pause of a lane whose message was not confirmed.
struct Rest {
    failures: u32,
    until: Instant,
    /// A fetch that has begun since does not leave it out.
    is_over: bool,
}

/// The messages of a lane that wait in hand.
#[derive(Default)]
struct Queue {
    rows: VecDeque<OutboxRow>,
    /// The table has more of them, which did not fit.
    has_more: bool,
}

/// The messages in hand.
#[derive(Default)]
pub(super) struct Lanes {
    /// A lane is here from its first message in hand until none is left. The message that is with the broker is not in its queue.
    queues: HashMap<Lane, Queue>,
    /// Lanes with a message that may go.
    ready: VecDeque<Lane>,
    /// The rows in hand: queued, with the broker, or settled and still in the table.
    held: HashSet<i64>,
    resting: HashMap<Lane, Rest>,
    /// A lane is short of messages that the table has.
    is_short: bool,
}

impl Lanes {
    /// The rows and the keys that a fetch leaves out.
    ///
    /// Rests end here, and only here. If one ended while a fetch is under way, that would bring the lane's later messages without
    /// the first.
    pub(super) fn left_out(&mut self, now: Instant) -> (Vec<i64>, Vec<String>) {
        let mut rows: Vec<i64> = self.held.iter().copied().collect();
        let mut keys = Vec::new();
        for (lane, rest) in &mut self.resting {
            rest.is_over |= rest.until <= now;
            match lane {
                _ if rest.is_over => {}
                Lane::Key(key) => keys.push(key.to_string()),
                Lane::Row(row) => rows.push(*row),
            }
        }
        self.is_short = false;
        for (lane, queue) in &mut self.queues {
            match lane {
                Lane::Key(key) if queue.rows.len() >= MAX_LANE_LEN / 2 => keys.push(key.to_string()),
                _ => queue.has_more = false,
            }
        }
        (rows, keys)
    }

    /// Takes what a fetch has brought; `is_all` if nothing else waits in the table.
    pub(super) fn add(&mut self, rows: Vec<OutboxRow>, is_all: bool) {
        for row in rows {
            let lane = Lane::of(&row);
            // It failed while the fetch was under way.
            if self.resting.get(&lane).is_some_and(|rest| !rest.is_over) {
                continue;
            }
            if let Some(queue) = self.queues.get_mut(&lane).filter(|queue| queue.rows.len() >= MAX_LANE_LEN) {
                // It is read again.
                queue.has_more = true;
                continue;
            }
            if self.held.insert(row.seq) {
                let queue = self.queues.entry(lane.clone()).or_insert_with(|| {
                    self.ready.push_back(lane);
                    Queue::default()
                });
                queue.rows.push_back(row);
            }
        }
        if is_all {
            // Those whose message is gone, as an operator may have it.
            let queues = &self.queues;
            self.resting.retain(|lane, rest| !rest.is_over || queues.contains_key(lane));
        }
    }

    /// The number of messages that may go now.
    pub(super) fn ready(&self) -> usize {
        self.ready.len()
    }

    /// True if a key is short of messages that the table has.
    pub(super) const fn is_short(&self) -> bool {
        self.is_short
    }

    /// True if so many lanes are left alone that no further one is to be tried.
    pub(super) fn is_tired(&self, now: Instant) -> bool {
        let rests = |rest: &&Rest| !rest.is_over && rest.until > now;
        self.resting.len() >= MAX_RESTING && self.resting.values().filter(rests).count() >= MAX_RESTING
    }

    /// Takes the first message of each of so many lanes.
    pub(super) fn batch(&mut self, most: usize) -> (Vec<Sent>, Vec<OutboxMessage>) {
        let (mut sent, mut messages) = (Vec::new(), Vec::new());
        while sent.len() < most
            && let Some(lane) = self.ready.pop_front()
        {
            let Some(queue) = self.queues.get_mut(&lane) else { continue };
            if let Some(row) = queue.rows.pop_front() {
                self.is_short |= queue.has_more && queue.rows.len() < MAX_LANE_LEN / 2;
                sent.push(Sent { seq: row.seq, lane });
                messages.push(row.message);
            }
        }
        (sent, messages)
    }

    /// The broker has this one, or will never take it: its lane goes on.
    pub(super) fn settled(&mut self, sent: &Sent) {
        self.resting.remove(&sent.lane);
        match self.queues.get(&sent.lane) {
            Some(queue) if !queue.rows.is_empty() => self.ready.push_back(sent.lane.clone()),
            _ => drop(self.queues.remove(&sent.lane)),
        }
    }

    /// The broker did not confirm this one: its lane is put down for a while.
    pub(super) fn failed(&mut self, sent: Sent, now: Instant, backoff: &Backoff) {
        self.held.remove(&sent.seq);
        for row in self.queues.remove(&sent.lane).into_iter().flat_map(|queue| queue.rows) {
            self.held.remove(&row.seq);
        }
        let rest = self.resting.entry(sent.lane).or_insert(Rest { failures: 0, until: now, is_over: false });
        rest.failures = rest.failures.saturating_add(1);
        rest.until = now + backoff.after(rest.failures).min(LONGEST);
        rest.is_over = false;
    }

    /// These rows are out of the table.
    pub(super) fn gone(&mut self, rows: impl IntoIterator<Item = i64>) {
        for row in rows {
            self.held.remove(&row);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const BACKOFF: Backoff = Backoff::constant(Duration::from_secs(1));

    fn row(seq: i64, key: Option<&str>) -> OutboxRow {
        let message = OutboxMessage {
            id: seq.to_string(),
            topic: "t".to_owned(),
            key: key.map(str::to_owned),
            payload: bytes::Bytes::new(),
            headers: Vec::new(),
        };
        OutboxRow { seq, message }
    }

    fn rows(rows: &[(i64, &str)]) -> Vec<OutboxRow> {
        rows.iter().map(|&(seq, key)| row(seq, (!key.is_empty()).then_some(key))).collect()
    }

    fn seqs(sent: &[Sent]) -> Vec<i64> {
        sent.iter().map(|sent| sent.seq).collect()
    }

    #[test]
    fn a_batch_has_one_message_of_a_key() {
        let mut lanes = Lanes::default();
        lanes.add(rows(&[(1, "a"), (2, "a"), (3, "b"), (4, ""), (5, "")]), true);
        let (first, messages) = lanes.batch(10);
        assert_eq!((seqs(&first), messages.len()), (vec![1, 3, 4, 5], 4));
        assert!(lanes.batch(10).0.is_empty(), "the first is not confirmed");
        for sent in &first {
            lanes.settled(sent);
        }
        assert_eq!(seqs(&lanes.batch(10).0), [2]);
    }

    #[test]
    fn a_key_stops_at_its_first_failure_and_is_read_anew() {
        let (mut lanes, now) = (Lanes::default(), Instant::now());
        lanes.add(rows(&[(1, "a"), (2, "a"), (3, "b"), (4, "b")]), true);
        let (sent, _) = lanes.batch(10);
        for sent in sent {
            if sent.seq == 1 { lanes.failed(sent, now, &BACKOFF) } else { lanes.settled(&sent) }
        }
        assert_eq!(seqs(&lanes.batch(10).0), [4], "the other one goes on");
        let (mut left_out, keys) = lanes.left_out(now);
        left_out.sort_unstable();
        assert_eq!((left_out, keys), (vec![3, 4], vec!["a".to_owned()]), "3 is in the table until it is deleted");
        lanes.gone([3, 4]);
        assert_eq!(lanes.left_out(now + Duration::from_secs(1)), (vec![], vec![]));
        lanes.add(rows(&[(1, "a"), (2, "a")]), true);
        assert_eq!(seqs(&lanes.batch(10).0), [1]);
    }

    /// A fetch begins, the first message fails, its pause is over at once, and the fetch brings what is behind it.
    #[test]
    fn a_fetch_that_began_before_a_failure_brings_nothing_of_its_key() {
        let (mut lanes, now) = (Lanes::default(), Instant::now());
        lanes.add(rows(&[(1, "a")]), true);
        let (sent, _) = lanes.batch(10);
        assert_eq!(lanes.left_out(now), (vec![1], vec![]));
        for sent in sent {
            lanes.failed(sent, now, &Backoff::constant(Duration::ZERO));
        }
        lanes.add(rows(&[(2, "a")]), true);
        assert_eq!(lanes.ready(), 0);
        assert_eq!(lanes.left_out(now), (vec![], vec![]));
        lanes.add(rows(&[(1, "a"), (2, "a")]), true);
        assert_eq!(seqs(&lanes.batch(10).0), [1]);
    }

    #[test]
    fn no_more_than_so_many_lanes_are_tried_in_vain() {
        let (mut lanes, now) = (Lanes::default(), Instant::now());
        lanes.add((0..10_000).map(|seq| row(seq, None)).collect(), false);
        for sent in lanes.batch(10_000).0 {
            assert!(!lanes.is_tired(now));
            lanes.failed(sent, now, &BACKOFF);
        }
        assert!(lanes.is_tired(now));
        assert!(!lanes.is_tired(now + Duration::from_secs(1)));
    }

    #[test]
    fn a_pause_may_be_for_ever() {
        let (mut lanes, now) = (Lanes::default(), Instant::now());
        lanes.add(rows(&[(1, "a")]), true);
        for sent in lanes.batch(10).0 {
            lanes.failed(sent, now, &Backoff::constant(Duration::MAX));
        }
        let a_century = Duration::from_secs(100 * 365 * 24 * 60 * 60);
        assert_eq!(lanes.left_out(now + a_century).1, ["a"]);
    }

    #[test]
    fn a_long_lane_leaves_room() {
        let mut lanes = Lanes::default();
        let many: Vec<_> = (0..1_000).map(|seq| row(seq, Some("a"))).collect();
        lanes.add(many, false);
        assert_eq!((lanes.held.len(), lanes.ready()), (MAX_LANE_LEN, 1));
        assert_eq!(lanes.left_out(Instant::now()).1, ["a"]);
        while !lanes.is_short() {
            for sent in lanes.batch(1).0 {
                lanes.settled(&sent);
            }
        }
        assert_eq!(lanes.left_out(Instant::now()).1, [""; 0]);
        assert!(!lanes.is_short());
    }
}
