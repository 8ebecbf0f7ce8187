//! Messages that are given up, for stores that keep them.

use std::{fmt, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;

use super::{Outcome, RecordKey, StoreResult, Token, Transition};
use crate::request::fingerprint::Fingerprint;

/// A message that is not worked off any more, as its store keeps it.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeadLetter {
    /// Its number in the store; 0 before it is there.
    pub id: i64,
    /// The operation of its inbox: group and handler.
    pub operation: String,
    /// Its key in the operation, encoded; empty where the message has no id.
    pub key: String,
    /// The fingerprint of its payload and kind.
    pub fingerprint: Fingerprint,
    /// The word for the reason: `permanent`, `exhausted`, `conflict`, `no-id` or `too-large`.
    pub reason: String,
    /// The number of runs before it was given up.
    pub attempts: u32,
    /// The text of the last error, up to 4 KiB, where there was one.
    pub error: Option<String>,
    /// The message's id as the broker had it.
    pub message_id: Option<String>,
    /// Its kind.
    pub kind: Option<String>,
    /// Its partition.
    pub partition: Option<String>,
    /// Its headers, as a JSON array of pairs.
    pub headers: Option<String>,
    /// The payload; `None` where it was too large.
    pub payload: Option<Bytes>,
    /// True while it is to be worked off again.
    pub is_replaying: bool,
    /// The time since it was given up.
    pub age: Duration,
}

impl DeadLetter {
    /// A letter with these parts, of a message about which nothing else is known. The other fields are set one by one.
    #[must_use]
    pub const fn new(operation: String, key: String, fingerprint: Fingerprint, reason: String) -> Self {
        Self {
            id: 0,
            operation,
            key,
            fingerprint,
            reason,
            attempts: 0,
            error: None,
            message_id: None,
            kind: None,
            partition: None,
            headers: None,
            payload: None,
            is_replaying: false,
            age: Duration::ZERO,
        }
    }

    /// The end of the message's run.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        if self.reason == "exhausted" { Outcome::Exhausted } else { Outcome::Dead }
    }
}

/// Ids, payloads and headers are not for logs.
impl fmt::Debug for DeadLetter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeadLetter")
            .field("id", &self.id)
            .field("operation", &self.operation)
            .field("reason", &self.reason)
            .field("attempts", &self.attempts)
            .field("is_replaying", &self.is_replaying)
            .field("age", &self.age)
            .finish_non_exhaustive()
    }
}

/// The answer to a request to work a dead letter off again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Replay {
    /// A running consumer works it off next.
    Asked,
    /// There is no such letter, or it is to be replayed already.
    NotDead,
    /// Its key belongs to another run or to another message by now, or it has no id or no payload: it stays a dead letter.
    Taken,
}

/// The dead letters of a store: one for each key and fingerprint, which outlives its record. Each method is one atomic step. The
/// conformance suite (feature `testing`) has rules for them.
///
/// # Errors
///
/// As [`Store`](super::Store).
#[async_trait]
pub trait DeadLetters: Send + Sync {
    /// Ends a run as [dead or exhausted](DeadLetter::outcome) and writes the letter, in one step. A letter of the same message
    /// that is being replayed is dead again. The journal stays with the record, for a replay.
    ///
    /// Asked again, it is [`Transition::Applied`] while the record shows this end of this run, and writes nothing. A run that
    /// has ended otherwise, or is another claim's, is [`Transition::Lost`].
    async fn bury(&self, key: &RecordKey, token: &Token, letter: &DeadLetter, ttl: Duration)
    -> StoreResult<Transition>;

    /// Writes a letter that has no run, unless there is one of this key and fingerprint.
    async fn put(&self, letter: &DeadLetter) -> StoreResult<()>;

    /// The operations that have letters, behind `after` in the order of their names' bytes.
    async fn operations(&self, after: &str, limit: usize) -> StoreResult<Vec<String>>;

    /// Letters of an operation with a number above `after`, in the order of their numbers.
    async fn letters(&self, operation: &str, after: i64, limit: usize) -> StoreResult<Vec<DeadLetter>>;

    /// Letters of an operation that are to be worked off again, with a number above `after`.
    async fn replaying(&self, operation: &str, after: i64, limit: usize) -> StoreResult<Vec<DeadLetter>>;

    /// Makes a dead letter's key claimable again, as if it had never been run but for its steps, and marks the letter, in one step.
    /// A key that is vacant is claimable already.
    async fn replay(&self, operation: &str, id: i64) -> StoreResult<Replay>;

    /// Removes a letter that was worked off again; false if there is none, or it is dead.
    async fn worked_off(&self, operation: &str, id: i64) -> StoreResult<bool>;

    /// Makes a letter dead again that was to be worked off, if it is not yet.
    async fn dead_again(&self, operation: &str, id: i64) -> StoreResult<()>;

    /// Removes a letter; false if there is none.
    async fn discard(&self, operation: &str, id: i64) -> StoreResult<bool>;
}
