//! A message, as it is published and as a relay hands it over.

use std::fmt;

use bytes::Bytes;
use sha2::{Digest, Sha256};

use crate::store::{StoreError, StoreErrorKind};

/// The longest payload of a message, in bytes.
pub(super) const MAX_PAYLOAD_LEN: usize = 1024 * 1024;
/// The most bytes of a topic, of a key, and of all headers.
const MAX_NAME_LEN: usize = 1024;
const MAX_HEADERS_LEN: usize = 64 * 1024;

/// A message to publish.
#[derive(Clone, Copy)]
pub struct Outgoing<'a> {
    /// Names the message among those of its run: a later attempt that publishes under this label publishes the same message.
    /// Not sent to the broker.
    pub label: Option<&'a str>,
    /// Where it goes: an exchange, a subject, a stream.
    pub topic: &'a str,
    /// The owner of an order: messages of one key go one after the other. Those without a key go in any order.
    pub key: Option<&'a str>,
    /// The bytes, 1 MiB at most.
    pub payload: &'a [u8],
    /// Further properties, 64 KiB at most.
    pub headers: &'a [(String, String)],
}

impl<'a> Outgoing<'a> {
    /// A message without a label, a key and headers.
    #[must_use]
    pub const fn new(topic: &'a str, payload: &'a [u8]) -> Self {
        Self { label: None, topic, key: None, payload, headers: &[] }
    }

    /// Refuses what not every database can hold.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        let refused = |what| Err(StoreError::new(StoreErrorKind::Refused, what));
        let is_name = |name: &str| name.len() <= MAX_NAME_LEN && !name.contains('\0');
        if self.topic.is_empty() || !is_name(self.topic) {
            return refused("the topic of a message has to be of 1 to 1,024 bytes, and without NUL");
        }
        if !self.key.is_none_or(is_name) {
            return refused("the key of a message has to be of up to 1,024 bytes, and without NUL");
        }
        if self.payload.len() > MAX_PAYLOAD_LEN {
            return refused("the payload of a message is longer than 1 MiB");
        }
        if self.headers.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>() > MAX_HEADERS_LEN {
            return refused("the headers of a message are longer than 64 KiB");
        }
        Ok(())
    }

    /// The hash of what it says: all but the label.
    pub(super) fn digest(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(b"idempotent outgoing 1\0");
        part(&mut hash, self.topic.as_bytes());
        // No key is another key than an empty one.
        hash.update([u8::from(self.key.is_some())]);
        part(&mut hash, self.key.unwrap_or_default().as_bytes());
        part(&mut hash, self.payload);
        for (name, value) in self.headers {
            part(&mut hash, name.as_bytes());
            part(&mut hash, value.as_bytes());
        }
        hash.finalize().into()
    }
}

/// Adds bytes with their length, so that they cannot run into those behind them.
pub(super) fn part(hash: &mut Sha256, bytes: &[u8]) {
    hash.update((bytes.len() as u64).to_le_bytes());
    hash.update(bytes);
}

/// Labels, keys, payloads and headers are not for logs.
impl fmt::Debug for Outgoing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outgoing")
            .field("topic", &self.topic)
            .field("payload_len", &self.payload.len())
            .finish_non_exhaustive()
    }
}

/// A message on its way to a broker, with its id.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct OutboxMessage {
    /// A UUID. Send it as the broker's message id: the message may arrive more than once, always with this id.
    pub id: String,
    /// Where it goes.
    pub topic: String,
    /// The owner of an order.
    pub key: Option<String>,
    /// The bytes.
    pub payload: Bytes,
    /// Further properties.
    pub headers: Vec<(String, String)>,
}

/// Keys, payloads and headers are not for logs.
impl fmt::Debug for OutboxMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OutboxMessage")
            .field("id", &self.id)
            .field("topic", &self.topic)
            .field("payload_len", &self.payload.len())
            .finish_non_exhaustive()
    }
}
