//! The record that a store keeps of a key. No I/O here.

use std::{error::Error as StdError, fmt, str::FromStr, sync::Arc, time::Duration};

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use super::token::{Generation, Nonce};
use crate::request::fingerprint::Fingerprint;

/// The identity of a record: operation name and key, as one text that no other pair shares.
///
/// The text is `operation|key` in printable ASCII. Both halves are percent-encoded where needed and neither contains
/// `|`, so it can be a Redis key, a column or a file name as it stands. [`FromStr`] reads it back: a key of any form
/// that [`list`](crate::Idempotency::list) shows (`order:(~17)`, `acme,~17`, `#` and a hash) can be kept as text and
/// given to [`Store::inspect`](crate::Store::inspect) or [`Store::forget`](crate::Store::forget) later. `Debug` shows the
/// operation alone, and there is no `Display`: keys stay out of logs.
///
/// ```
/// use idempotent_runtime::store::RecordKey;
///
/// let key: RecordKey = "shop.charge|order:(~17)".parse()?;
/// assert_eq!((key.operation(), key.key()), ("shop.charge", "order:(~17)"));
/// # Ok::<(), idempotent_runtime::store::RecordKeyError>(())
/// ```
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

/// A digest of a [`RecordKey`], for logs: 16 hex digits, the first eight bytes of the SHA-256 of its text.
///
/// Spans and events have it as `key_digest`, so that a warning leads to its record. It is no secret: whoever can guess a key can
/// check the guess.
///
/// ```
/// use idempotent_runtime::store::{KeyDigest, RecordKey};
///
/// let key: RecordKey = "shop.charge|order-17".parse()?;
/// assert_eq!(key.digest().to_string(), "d2c9095a70b4ef3a");
/// assert_eq!(key.digest().to_string().parse(), Ok(key.digest()));
/// # Ok::<(), idempotent_runtime::store::RecordKeyError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyDigest(u64);

impl RecordKey {
    /// Its digest.
    #[must_use]
    pub fn digest(&self) -> KeyDigest {
        let hash = Sha256::digest(self.text.as_bytes());
        KeyDigest(hash.first_chunk().map_or(0, |start| u64::from_be_bytes(*start)))
    }
}

impl fmt::Display for KeyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for KeyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyDigest({self})")
    }
}

/// Reads 16 hex digits.
impl FromStr for KeyDigest {
    type Err = RecordKeyError;

    fn from_str(text: &str) -> Result<Self, RecordKeyError> {
        let is_digest = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let number = u64::from_str_radix(text, 16).ok().filter(|_| is_digest);
        number.map(Self).ok_or(RecordKeyError { _private: () })
    }
}

/// Reads the text of [`as_str`](RecordKey::as_str).
impl FromStr for RecordKey {
    type Err = RecordKeyError;

    fn from_str(text: &str) -> Result<Self, RecordKeyError> {
        let (operation, key) = text.split_once(Self::SEPARATOR).ok_or(RecordKeyError { _private: () })?;
        let printable = text.bytes().all(|byte| byte.is_ascii_graphic());
        if operation.is_empty() || key.contains(Self::SEPARATOR) || !printable {
            return Err(RecordKeyError { _private: () });
        }
        Ok(Self { text: text.to_owned(), operation_len: operation.len() })
    }
}

/// A text that is no [`RecordKey`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordKeyError {
    _private: (),
}

impl fmt::Display for RecordKeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a record key is `operation|key`, with one `|`, in printable ASCII without blanks")
    }
}

impl StdError for RecordKeyError {}

impl fmt::Debug for RecordKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecordKey").field("operation", &self.operation()).finish_non_exhaustive()
    }
}

/// The end of a run, as its record keeps it.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// The body's `Ok`, serialized.
    Ok(Bytes),
    /// The body's `Err`, serialized.
    Err(Bytes),
    /// The run ended, and what it returned could not be kept.
    NotKept(NotKept),
    /// The key was run as often as its operation allows, and each run failed: it is not run again.
    Exhausted,
    /// The run of a message ended in an error that no other run would end without: the message is a dead letter.
    Dead,
}

impl Outcome {
    /// The word for this end that the SQL stores' columns and views have too: `ok`, `error`, `not-kept`, `exhausted`
    /// or `dead`.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Ok(_) => "ok",
            Self::Err(_) => "error",
            Self::NotKept(_) => "not-kept",
            Self::Exhausted => "exhausted",
            Self::Dead => "dead",
        }
    }

    /// Its length in bytes, as counted against the limit for results.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Ok(bytes) | Self::Err(bytes) => bytes.len(),
            Self::NotKept(_) | Self::Exhausted | Self::Dead => 0,
        }
    }

    /// True where there are no bytes.
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
            Self::Exhausted => f.write_str("Exhausted"),
            Self::Dead => f.write_str("Dead"),
        }
    }
}

/// The reason why a finished run has no result to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum NotKept {
    /// It was larger than the limit for results.
    TooLarge,
    /// It could not be serialized so that it would come back the same: it was decoded and compared. What serde does not
    /// write, such as a skipped field, cannot be compared.
    ///
    /// With `serde_json`'s feature `arbitrary_precision`, which any dependency may switch on, floats in internally tagged or
    /// untagged enums and in flattened fields cannot be read back from JSON, so that shared stores do not keep such results.
    NotSerializable,
}

impl NotKept {
    /// The word for this reason that the SQL stores' columns have too: `too-large` or `not-serializable`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TooLarge => "too-large",
            Self::NotSerializable => "not-serializable",
        }
    }
}

impl fmt::Display for NotKept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLarge => "it was larger than the limit for results",
            Self::NotSerializable => "it could not be serialized so that it would come back the same",
        })
    }
}

/// A finished run.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finished {
    /// The fingerprint of the request that ran.
    pub fingerprint: Fingerprint,
    /// The number of the run: 1 for the first of a key.
    pub attempt: u32,
    /// The end of the run.
    pub outcome: Outcome,
}

impl Finished {
    /// A finished run with these parts.
    #[must_use]
    pub const fn new(fingerprint: Fingerprint, attempt: u32, outcome: Outcome) -> Self {
        Self { fingerprint, attempt, outcome }
    }
}

/// A step of a run, as the journal beside its record keeps it.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Step {
    /// Its name: unique in a life of the key, and printable ASCII.
    pub name: String,
    /// Its value, serialized; or the reason why that was not kept.
    pub value: Result<Bytes, NotKept>,
}

impl Step {
    /// A step with this name and value.
    #[must_use]
    pub const fn new(name: String, value: Result<Bytes, NotKept>) -> Self {
        Self { name, value }
    }

    /// Its length in bytes, as counted against the limit for journals.
    #[must_use]
    pub fn len(&self) -> usize {
        self.name.len() + self.value.as_ref().map_or(0, Bytes::len)
    }

    /// True where there are no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Names and values are not for logs: a name may hold an argument.
impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Step")
            .field("len", &self.len())
            .field("not_kept", &self.value.as_ref().err())
            .finish_non_exhaustive()
    }
}

/// A record as an operator sees it.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Record {
    /// Its identity.
    pub key: RecordKey,
    /// The fingerprint of the request that made it.
    pub fingerprint: Fingerprint,
    /// The number of the run that is under way, or was the last: the claims that were granted since the key was last
    /// vacant or left to a first run by an operator, without those that began no body. Zero before that first run.
    pub attempt: u32,
    /// The number of those runs that ended in an error, and left the key to a further run.
    pub failed: u32,
    /// The life of the key that this record is of.
    pub generation: Generation,
    /// The claim that was granted last, or the resolution since.
    pub owner: Nonce,
    /// Its state on the store's clock, when it was read.
    pub state: State,
    /// The time for which the store will keep it, unless something changes it.
    pub expires_in: Duration,
    /// The time before which no call runs the key again; `None` where one may do so now.
    pub not_before: Option<Duration>,
    /// The request itself, as JSON, where the run that had the key last
    /// [recorded](crate::IdempotencyBuilder::record_arguments) it.
    pub arguments: Option<Bytes>,
    /// The caller who had the key last, as it [says](crate::IdempotencyBuilder::context) itself, or the operator who has
    /// resolved it, and why.
    pub context: Option<Arc<str>>,
}

impl Record {
    /// A record with these parts, for implementations of a store. No run of it has failed, it may be run again now, and it
    /// has neither arguments nor a context.
    #[must_use]
    pub const fn new(
        key: RecordKey,
        fingerprint: Fingerprint,
        generation: Generation,
        owner: Nonce,
        attempt: u32,
        state: State,
        expires_in: Duration,
    ) -> Self {
        Self {
            key,
            fingerprint,
            attempt,
            failed: 0,
            generation,
            owner,
            state,
            expires_in,
            not_before: None,
            arguments: None,
            context: None,
        }
    }

    /// Sets how many runs have ended in an error.
    #[must_use]
    pub const fn with_failed(mut self, failed: u32) -> Self {
        self.failed = failed;
        self
    }

    /// Sets the time before which no call runs the key again.
    #[must_use]
    pub const fn with_not_before(mut self, not_before: Option<Duration>) -> Self {
        self.not_before = not_before;
        self
    }

    /// Adds the arguments that the last granted claim recorded; `None` for none.
    #[must_use]
    pub fn with_arguments(mut self, arguments: impl Into<Option<Bytes>>) -> Self {
        self.arguments = arguments.into();
        self
    }

    /// True if it is *held*: it has no end in practice, and no outcome. See [`ClaimRequest::HELD`].
    ///
    /// [`ClaimRequest::HELD`]: crate::store::ClaimRequest::HELD
    #[must_use]
    pub fn is_held(&self) -> bool {
        !matches!(self.state, State::Done(_)) && self.expires_in > super::ClaimRequest::HELD
    }

    /// Adds the context of the last granted claim, or of the resolution since; `None` for none.
    #[must_use]
    pub fn with_context(mut self, context: impl Into<Option<Arc<str>>>) -> Self {
        self.context = context.into();
        self
    }
}

/// Arguments and contexts are not for logs.
impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, fingerprint, attempt, failed, generation, owner, .. } = self;
        let Self { state, expires_in, not_before, arguments, context, .. } = self;
        f.debug_struct("Record")
            .field("key", key)
            .field("fingerprint", fingerprint)
            .field("attempt", attempt)
            .field("failed", failed)
            .field("generation", generation)
            .field("owner", owner)
            .field("state", state)
            .field("expires_in", expires_in)
            .field("not_before", not_before)
            .field("arguments", &Hidden(arguments.as_deref()))
            .field("context", &Hidden(context.as_deref().map(str::as_bytes)))
            .finish()
    }
}

/// Bytes that a log may count and not show.
pub(crate) struct Hidden<'a>(pub(crate) Option<&'a [u8]>);

impl fmt::Debug for Hidden<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(bytes) => write!(f, "Some({} bytes)", bytes.len()),
            None => f.write_str("None"),
        }
    }
}

/// The state of a record, on the store's clock.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum State {
    /// Claimed, and its lease has not lapsed.
    #[non_exhaustive]
    Running {
        /// The rest of the lease. Never zero.
        lease_left: Duration,
    },
    /// Claimed, and its lease has lapsed: its owner is late, stuck or dead.
    Lapsed,
    /// Its owner said that the run ended in an error that left nothing in doubt: it may be run again.
    Failed,
    /// Its owner said that the run ended without an outcome.
    Abandoned,
    /// Finished.
    Done(Outcome),
}

impl State {
    /// [`Running`](Self::Running) with this much of the lease left, which must not be zero.
    #[must_use]
    pub const fn running(lease_left: Duration) -> Self {
        Self::Running { lease_left }
    }

    /// The word for this state: `running`, `lapsed`, `failed`, `abandoned`, and for a finished run that of its
    /// [outcome](Outcome::as_str). The columns and views of the SQL stores have the same words, but only the views say
    /// `lapsed`.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Running { .. } => "running",
            Self::Lapsed => "lapsed",
            Self::Failed => "failed",
            Self::Abandoned => "abandoned",
            Self::Done(outcome) => outcome.as_str(),
        }
    }
}
