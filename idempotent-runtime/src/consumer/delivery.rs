//! A message as a broker hands it over.

use std::{error::Error as StdError, fmt, future::Future, time::Duration};

use super::settled::Dead;
use crate::store::DeadLetter;

/// An error of a broker's client.
pub type BoxError = Box<dyn StdError + Send + Sync>;

/// A message as a broker handed it over, to be settled once. Dropped, it is left to the broker.
///
/// A settlement may fail: the broker then delivers the message again, and it is a duplicate. One that does not end within the inbox's
/// lease, or [`retry`](Self::retry) within that after its time, is dropped, and taken for failed.
///
/// Implement it for what your broker's client delivers; the [module](super) tells what matters. What a [`Message`] borrows has to be
/// in it, also its headers and its partition: convert them when it comes.
///
/// ```
/// use std::time::Duration;
/// use idempotent_runtime::consumer::{BoxError, Dead, Delivery, Message};
///
/// struct Received { id: String, body: Vec<u8> /* and the channel that it came on */ }
///
/// impl Delivery for Received {
///     fn message(&self) -> Message<'_> {
///         Message::new(Some(&self.id), &self.body)
///     }
///     async fn ack(self) -> Result<(), BoxError> { Ok(()) }
///     async fn retry(self, _: Duration) -> Result<(), BoxError> { Ok(()) }
///     async fn reject(self, _: &Dead) -> Result<(), BoxError> { Ok(()) }
/// }
/// ```
pub trait Delivery: Send + Sync + 'static {
    /// The message itself.
    fn message(&self) -> Message<'_>;

    /// The broker's count of its deliveries, this one included. For logs only: attempts are counted in the
    /// store.
    fn deliveries(&self) -> Option<u32> {
        None
    }

    /// The time for which it stays ours without a sign of life; `None` where that is as long as the connection lives.
    fn visibility(&self) -> Option<Duration> {
        None
    }

    /// Gives a sign of life: it stays ours for its [`visibility`](Self::visibility) from now on.
    fn extend(&self) -> impl Future<Output = Result<(), BoxError>> + Send {
        async { Ok(()) }
    }

    /// It is worked off: the broker forgets it.
    fn ack(self) -> impl Future<Output = Result<(), BoxError>> + Send;

    /// It is not worked off: the broker delivers it again, after that time. Where the broker cannot delay, wait here, and then give it
    /// back: it takes a place of the prefetch meanwhile, and none of a handler. Given back at once it would go round, since the store
    /// refuses a run that comes too early.
    fn retry(self, after: Duration) -> impl Future<Output = Result<(), BoxError>> + Send;

    /// It is given up: the broker moves it to its dead letters, or forgets it where the store keeps them. Keep them in one place: a
    /// [replay](super::Inbox::replay) removes the store's.
    fn reject(self, why: &Dead) -> impl Future<Output = Result<(), BoxError>> + Send;
}

/// A message: what identifies it, and what it says.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub struct Message<'a> {
    /// The id that its producer gave it, the same in each delivery: the key of its run.
    pub id: Option<&'a str>,
    /// The bytes.
    pub payload: &'a [u8],
    /// The kind of its payload, as a type or a subject. Part of the request: another kind under a used id is a conflict.
    pub kind: Option<&'a str>,
    /// The part of the messages that has its own order: [`Inbox::run`](super::Inbox::run) works the messages of a partition off one after the other.
    pub partition: Option<&'a str>,
    /// Other headers, for a dead letter.
    pub headers: &'a [(String, String)],
    /// True if an operator has sent it again after it was dead. On stores that keep no dead letters it runs as if for the first
    /// time; on the others, [`Inbox::replay`](super::Inbox::replay) does that.
    pub is_sent_again: bool,
    /// The letter that it comes from.
    pub(super) letter: Option<&'a DeadLetter>,
}

impl<'a> Message<'a> {
    /// A message of no kind and no partition, with no headers, sent by its producer.
    #[must_use]
    pub const fn new(id: Option<&'a str>, payload: &'a [u8]) -> Self {
        Self { id, payload, kind: None, partition: None, headers: &[], is_sent_again: false, letter: None }
    }

    /// Sets what the payload is.
    #[must_use]
    pub const fn with_kind(mut self, kind: Option<&'a str>) -> Self {
        self.kind = kind;
        self
    }

    /// Sets what has its own order.
    #[must_use]
    pub const fn with_partition(mut self, partition: Option<&'a str>) -> Self {
        self.partition = partition;
        self
    }

    /// Sets the other headers.
    #[must_use]
    pub const fn with_headers(mut self, headers: &'a [(String, String)]) -> Self {
        self.headers = headers;
        self
    }

    /// Says that an operator has sent it again.
    #[must_use]
    pub const fn sent_again(mut self, is_sent_again: bool) -> Self {
        self.is_sent_again = is_sent_again;
        self
    }
}

/// Ids, payloads and headers are not for logs.
impl fmt::Debug for Message<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("has_id", &self.id.is_some())
            .field("payload_len", &self.payload.len())
            .field("is_sent_again", &self.is_sent_again)
            .finish_non_exhaustive()
    }
}
