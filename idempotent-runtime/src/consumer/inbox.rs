//! An inbox: the messages of one handler in one consumer group.

#[cfg(any(feature = "postgres", feature = "sqlite"))]
use std::sync::atomic::AtomicBool;
use std::{fmt, sync::Arc, time::Duration};

use super::{delivery::Message, payload::Payload};
use crate::{
    Backoff, Error, Fingerprint, Idempotency, Operation, SetupError,
    store::{DeadLetter, Replay, StoreError, StoreErrorKind},
};

type IsPermanent<E> = Box<dyn Fn(&E) -> bool + Send + Sync>;
type FingerprintOf = Box<dyn Fn(&Message<'_>) -> Fingerprint + Send + Sync>;

/// Works each message of a handler off once. `E` is the handler's error.
///
/// Cheap to clone; the clones are one inbox. See the [module](super) for what happens to a message.
pub struct Inbox<E> {
    pub(super) shared: Arc<InboxShared<E>>,
}

pub(super) struct InboxShared<E> {
    pub(super) idempotency: Idempotency,
    pub(super) operation: Operation,
    /// Its name as records have it.
    pub(super) letters_of: String,
    pub(super) max_attempts: u32,
    pub(super) backoff: Backoff,
    pub(super) max_payload_len: usize,
    permanent: Option<IsPermanent<E>>,
    fingerprint: Option<FingerprintOf>,
    /// True once a pool was found to be of the store's database.
    #[cfg(any(feature = "postgres", feature = "sqlite"))]
    pub(super) is_checked: AtomicBool,
}

impl<E> Inbox<E> {
    /// Starts an inbox for this handler of this consumer group. Both names are in the key of each message: two groups each
    /// work an event off, and so do two handlers of a group.
    pub fn builder(idempotency: Idempotency, group: &str, handler: &str) -> InboxBuilder<E> {
        InboxBuilder {
            idempotency,
            names: [group.to_owned(), handler.to_owned()],
            ttl: InboxBuilder::<E>::DEFAULT_TTL,
            lease: Operation::DEFAULT_LEASE,
            wait: InboxBuilder::<E>::DEFAULT_WAIT,
            max_attempts: 10,
            backoff: Backoff::exponential(Duration::from_secs(1), Duration::from_secs(5 * 60)),
            max_payload_len: 1024 * 1024,
            permanent: None,
            fingerprint: None,
        }
    }

    /// The operation of its records: group and handler, with a `/` between them. In the columns of the SQL stores the `/` is `%2F`,
    /// as in any [key](crate::key).
    #[must_use]
    pub fn operation(&self) -> &str {
        &self.shared.operation.name
    }

    /// Dead letters with a number above `after`, in the order of their numbers. For operators.
    ///
    /// # Errors
    ///
    /// [`Error::Store`]; where the store is no SQL database, dead letters are the broker's ([`StoreErrorKind::Refused`]).
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn dead_letters(&self, after: i64, limit: usize) -> Result<Vec<DeadLetter>, Error> {
        let letters = self.shared.idempotency.shared.store.dead_letters().ok_or(NO_LETTERS)?;
        Ok(letters.letters(&self.shared.letters_of, after, limit).await?)
    }

    /// Has a running consumer ([`run`](Self::run)) work a dead letter off once more, as if its message had never been run. The
    /// letter goes when that has succeeded, and is dead again if it fails. Its recorded [steps](crate::step) are not repeated. A letter
    /// without an id or a payload cannot be replayed, nor can one whose id another message has: see [`Replay`]. Whichever process runs it is not that
    /// of its partition. For operators.
    ///
    /// # Errors
    ///
    /// As [`dead_letters`](Self::dead_letters).
    ///
    /// # Cancel safety
    ///
    /// Dropped, it may have been asked for.
    pub async fn replay(&self, id: i64) -> Result<Replay, Error> {
        let letters = self.shared.idempotency.shared.store.dead_letters().ok_or(NO_LETTERS)?;
        Ok(letters.replay(&self.shared.letters_of, id).await?)
    }

    /// Removes a dead letter, also one that is to be replayed; false if there is none. For operators.
    ///
    /// # Errors
    ///
    /// As [`dead_letters`](Self::dead_letters).
    ///
    /// # Cancel safety
    ///
    /// Dropped, it may have been removed.
    pub async fn discard(&self, id: i64) -> Result<bool, Error> {
        let letters = self.shared.idempotency.shared.store.dead_letters().ok_or(NO_LETTERS)?;
        Ok(letters.discard(&self.shared.letters_of, id).await?)
    }
}

const NO_LETTERS: StoreError =
    StoreError::new(StoreErrorKind::Refused, "this store keeps no dead letters: they are where the broker keeps them");

impl<E> InboxShared<E> {
    pub(super) fn is_permanent(&self, error: &E) -> bool {
        self.permanent.as_ref().is_some_and(|permanent| permanent(error))
    }

    pub(super) fn fingerprint(&self, message: &Message<'_>) -> Result<Fingerprint, Error> {
        match &self.fingerprint {
            Some(fingerprint) => Ok(fingerprint(message)),
            None => Fingerprint::of(&(message.kind, Payload(message.payload))).map_err(Error::Arguments),
        }
    }
}

impl<E> Clone for Inbox<E> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<E> fmt::Debug for Inbox<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbox").field("operation", &self.operation()).finish_non_exhaustive()
    }
}

/// The settings of an [`Inbox`].
#[must_use]
pub struct InboxBuilder<E> {
    idempotency: Idempotency,
    names: [String; 2],
    ttl: Duration,
    lease: Duration,
    wait: Duration,
    max_attempts: u32,
    backoff: Backoff,
    max_payload_len: usize,
    permanent: Option<IsPermanent<E>>,
    fingerprint: Option<FingerprintOf>,
}

impl<E> InboxBuilder<E> {
    /// The time that a message is remembered unless said otherwise: 8 days, a day more than most brokers keep a message.
    pub const DEFAULT_TTL: Duration = Duration::from_secs(8 * 24 * 60 * 60);
    /// The time that a duplicate waits for the run of its message unless said otherwise: 1 second.
    pub const DEFAULT_WAIT: Duration = Duration::from_secs(1);
    /// The shortest time that a message is remembered: 1 hour.
    pub const LEAST_TTL: Duration = Duration::from_secs(60 * 60);

    /// Sets how long a message is remembered after it was worked off: longer than the broker may deliver it again.
    pub const fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }

    /// Sets how long a claim lives without a sign of life. It is renewed at a third.
    pub const fn lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    /// Sets how long a duplicate waits for the run of its message, before it goes back to the broker.
    pub const fn wait(mut self, wait: Duration) -> Self {
        self.wait = wait;
        self
    }

    /// Sets how often a message is run at most: 10 times unless said otherwise. A run whose process was killed counts, and so does
    /// that of a deployment that kills. What a drain breaks off does not.
    pub const fn max_attempts(mut self, attempts: u32) -> Self {
        self.max_attempts = attempts;
        self
    }

    /// Sets the pause after a run that failed, on the store's clock: from 1 second to 5 minutes unless said otherwise.
    pub fn backoff(mut self, backoff: impl Into<Backoff>) -> Self {
        self.backoff = backoff.into();
        self
    }

    /// Sets the longest payload, in bytes: 1 MiB unless said otherwise. Its dead letter does not have the payload.
    pub const fn max_payload_len(mut self, bytes: usize) -> Self {
        self.max_payload_len = bytes;
        self
    }

    /// Tells which errors of the handler no other run would end without. Their messages are given up at once.
    pub fn permanent(mut self, is_permanent: impl Fn(&E) -> bool + Send + Sync + 'static) -> Self {
        self.permanent = Some(Box::new(is_permanent));
        self
    }

    /// Sets what makes two messages with one id the same request, where a producer serializes anew for each delivery: the
    /// [fingerprint](Fingerprint::of) of what it means. Unless said otherwise, kind and payload, byte for byte.
    pub fn fingerprint(mut self, of: impl Fn(&Message<'_>) -> Fingerprint + Send + Sync + 'static) -> Self {
        self.fingerprint = Some(Box::new(of));
        self
    }

    /// Makes the inbox.
    ///
    /// # Errors
    ///
    /// [`SetupError::Setting`] for a name that is empty or has a `/`, a ttl under an hour or below the lease, no attempts, or
    /// a backoff above the ttl.
    pub fn build(self) -> Result<Inbox<E>, SetupError> {
        let refused = |what| Err(SetupError::Setting(what));
        if self.names.iter().any(|name| name.is_empty() || name.contains('/')) {
            return refused("the names of an inbox's group and handler must not be empty, and have no `/`");
        }
        if self.ttl < Self::LEAST_TTL {
            return refused("an inbox's `ttl` has to be an hour or more: a message that is delivered later runs again");
        }
        if self.ttl < self.lease || self.lease < Duration::from_millis(10) {
            return refused("an inbox's `lease` has to be 10 ms or more, and not above its `ttl`");
        }
        if self.max_attempts == 0 {
            return refused("an inbox's `max_attempts` has to be 1 or more");
        }
        if self.backoff.longest() > self.ttl {
            return refused("an inbox's longest backoff must not be above its `ttl`");
        }
        let Ok(key) = self.idempotency.encode_key(&self.names.join("/"), "id") else {
            return refused("the names of an inbox's group and handler are too long");
        };
        // The number of attempts is the inbox's own to watch: a message that exceeds it is a dead letter.
        let operation = Operation::new(self.names.join("/"))
            .ttl(self.ttl)
            .lease(self.lease)
            .wait(self.wait)
            .retry_after(self.backoff);
        Ok(Inbox {
            shared: Arc::new(InboxShared {
                idempotency: self.idempotency,
                operation,
                letters_of: key.operation().to_owned(),
                max_attempts: self.max_attempts,
                backoff: self.backoff,
                max_payload_len: self.max_payload_len,
                permanent: self.permanent,
                fingerprint: self.fingerprint,
                #[cfg(any(feature = "postgres", feature = "sqlite"))]
                is_checked: AtomicBool::new(false),
            }),
        })
    }
}

impl<E> fmt::Debug for InboxBuilder<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InboxBuilder").field("names", &self.names).finish_non_exhaustive()
    }
}
