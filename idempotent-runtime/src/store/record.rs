//! What a store keeps about a key. No I/O here.

use std::{fmt, time::Duration};

use bytes::Bytes;

use crate::request::fingerprint::Fingerprint;

/// The identity of a record: operation name and key, as one text that no other pair shares.
///
/// The text is `operation|key` in printable ASCII. Both halves are percent-encoded where needed and neither contains
/// `|`, so it can be a Redis key, a column or a file name as it stands. It does not appear in `Debug`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct RecordKey {
    text: String,
    operation_len: usize,
}

impl RecordKey {
    /// Separates the two halves.
    pub const SEPARATOR: char = '|';

    /// Joins two halves that are already encoded (see [`key`](crate::key)).
    pub(crate) fn from_encoded(text: String, operation_len: usize) -> Self {
        debug_assert_eq!(text.as_bytes().get(operation_len), Some(&b'|'));
        Self { text, operation_len }
    }

    /// The record key with this text, as a store read it; `None` if it is not one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let operation_len = text.find(Self::SEPARATOR)?;
        let printable = text.bytes().all(|byte| byte.is_ascii_graphic());
        let separated_once = text.matches(Self::SEPARATOR).count() == 1;
        (operation_len > 0 && printable && separated_once).then(|| Self { text: text.to_owned(), operation_len })
    }

    /// The whole text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The operation's name, percent-encoded where it had other characters than names usually have.
    #[must_use]
    pub fn operation(&self) -> &str {
        self.text.get(..self.operation_len).unwrap_or_default()
    }

    /// The key within the operation, encoded as [`key`](crate::key) says.
    #[must_use]
    pub fn key(&self) -> &str {
        self.text.get(self.operation_len + 1..).unwrap_or_default()
    }
}

impl fmt::Debug for RecordKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecordKey").field("operation", &self.operation()).finish_non_exhaustive()
    }
}

/// What a run came to, as it is kept.
#[derive(Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The body's `Ok`, serialized.
    Ok(Bytes),
    /// The body's `Err`, serialized.
    Err(Bytes),
    /// The run ended, and what it returned could not be kept.
    NotKept(NotKept),
}

impl Outcome {
    /// Its length in bytes, as counted against the limit for results.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Ok(bytes) | Self::Err(bytes) => bytes.len(),
            Self::NotKept(_) => 0,
        }
    }

    /// Whether there are no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Results are not for logs.
impl fmt::Debug for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ok(bytes) => write!(f, "Ok({} bytes)", bytes.len()),
            Self::Err(bytes) => write!(f, "Err({} bytes)", bytes.len()),
            Self::NotKept(why) => write!(f, "NotKept({why:?})"),
        }
    }
}

/// Why a finished run has no result to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum NotKept {
    /// It was larger than the limit for results.
    TooLarge,
    /// It could not be serialized so that it would come back the same.
    NotSerializable,
}

impl fmt::Display for NotKept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLarge => "it was larger than the limit",
            Self::NotSerializable => "it could not be serialized faithfully",
        })
    }
}

/// A finished run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finished {
    /// The fingerprint of the request that ran.
    pub fingerprint: Fingerprint,
    /// Which attempt it was.
    pub attempt: u32,
    /// What it came to.
    pub outcome: Outcome,
}

/// A record as an operator sees it.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Record {
    /// Its identity.
    pub key: RecordKey,
    /// The fingerprint of the request that made it.
    pub fingerprint: Fingerprint,
    /// How often the key was claimed since it was last vacant.
    pub attempt: u32,
    /// Where it stands.
    pub state: State,
    /// How long the store will keep it, unless something changes it.
    pub expires_in: Duration,
    /// The request itself, as JSON, where the run that had the key last [recorded](crate::IdempotencyBuilder::record_arguments) it.
    pub arguments: Option<Bytes>,
}

impl Record {
    /// A record with these parts, for implementations of a store.
    #[must_use]
    pub const fn new(
        key: RecordKey,
        fingerprint: Fingerprint,
        attempt: u32,
        state: State,
        expires_in: Duration,
        arguments: Option<Bytes>,
    ) -> Self {
        Self { key, fingerprint, attempt, state, expires_in, arguments }
    }
}

/// Arguments are not for logs.
impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, fingerprint, attempt, state, expires_in, arguments } = self;
        f.debug_struct("Record")
            .field("key", key)
            .field("fingerprint", fingerprint)
            .field("attempt", attempt)
            .field("state", state)
            .field("expires_in", expires_in)
            .field("arguments", &Hidden(arguments.as_ref()))
            .finish()
    }
}

/// Bytes that a log may count and not show.
pub(crate) struct Hidden<'a>(pub(crate) Option<&'a Bytes>);

impl fmt::Debug for Hidden<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(bytes) => write!(f, "Some({} bytes)", bytes.len()),
            None => f.write_str("None"),
        }
    }
}

/// Where a record stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Claimed, and alive.
    Running {
        /// What is left of the lease.
        lease_left: Duration,
    },
    /// Its owner said that it ended without an outcome, or its lease lapsed.
    Abandoned,
    /// Finished.
    Done(Outcome),
}
