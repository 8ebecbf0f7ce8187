//! What the calls of a test did.

use std::{
    fmt,
    future::Future,
    sync::{Arc, Mutex},
};

use serde::Serialize;

use super::surroundings::Surroundings;
use crate::{
    Disposition,
    engine::events::About,
    lock::lock,
    request::key,
    store::{KeyDigest, RecordKey},
};

/// Notes each idempotent call of a future: how it was answered, whether its body ran, and which child keys it passed on. Cloning shares
/// the notes.
///
/// ```
/// # #[cfg(all(feature = "macros", feature = "memory"))] mod example {
/// use idempotent_runtime::{Error, Execution, Idempotency, idempotent, testing::{self, Probe}};
///
/// #[idempotent(name = "mail.send", key = message_id)]
/// async fn send(message_id: &str) -> Result<String, Error> {
///     let run = Execution::current().expect("inside an idempotent function");
///     Ok(run.child_key("mail-server"))
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # pub async fn main() -> Result<(), Error> {
/// let probe = Probe::new();
/// let twice = async { (send("m-1").await, send("m-1").await) };
/// testing::with(Idempotency::memory(), probe.watch(twice)).await.1?;
///
/// probe.assert_ran_once("mail.send", "m-1");
/// probe.assert_replayed("mail.send", "m-1");
/// assert_eq!(probe.calls()[0].child_keys.len(), 1);
/// # Ok(()) }
/// # }
/// # #[cfg(all(feature = "macros", feature = "memory"))] fn main() { example::main().unwrap() }
/// # #[cfg(not(all(feature = "macros", feature = "memory")))] fn main() {}
/// ```
#[derive(Clone, Default)]
pub struct Probe {
    calls: Arc<Mutex<Vec<ProbedCall>>>,
}

/// A call that a [`Probe`] has noted.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProbedCall {
    /// The operation's name.
    pub operation: String,
    /// The digest of its key; `None` for a call that was refused before it had one.
    pub key: Option<KeyDigest>,
    /// The attempt of its own run; `None` where its body did not run.
    pub attempt: Option<u32>,
    /// The child keys that its body made: label and key.
    pub child_keys: Vec<(String, String)>,
    /// How it was answered; `None` where it was not (its future was dropped, or its body panicked), and where its body has run
    /// and its end is not on record.
    pub disposition: Option<Disposition>,
    /// The [code](crate::Error::code) of the error that refused it.
    pub refused: Option<&'static str>,
}

impl Probe {
    /// A probe without notes.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Notes the calls that a future makes, in whatever handle. It counts for what the future awaits and for detached bodies and
    /// messages, also those of annotated functions inside annotated functions.
    ///
    /// # Cancel safety
    ///
    /// As that of the future.
    pub async fn watch<F: Future>(&self, future: F) -> F::Output {
        Surroundings { probe: Some(self.clone()), ..Surroundings::current() }.around(future).await
    }

    /// The calls so far, in the order in which their bodies began or, where none ran, in which they were answered.
    #[must_use]
    pub fn calls(&self) -> Vec<ProbedCall> {
        lock(&self.calls).clone()
    }

    /// The calls of a key, which is a value, as [`CallBuilder::key`](crate::CallBuilder::key) takes it.
    ///
    /// # Panics
    ///
    /// If the value is no key.
    #[must_use]
    pub fn calls_of(&self, operation: &str, key: impl Serialize) -> Vec<ProbedCall> {
        let key =
            key::record_key(operation, usize::MAX, |writer| writer.value(&key)).expect("a value that can be a key");
        let key = Some(key.digest());
        self.calls().into_iter().filter(|call| call.operation == operation && call.key == key).collect()
    }

    /// Checks that the body has run once for this key, however often it was called.
    ///
    /// # Panics
    ///
    /// If it has run more often, or not at all.
    #[track_caller]
    pub fn assert_ran_once(&self, operation: &str, key: impl Serialize) {
        let calls = self.calls_of(operation, key);
        let runs = calls.iter().filter(|call| call.attempt.is_some()).count();
        assert!(runs == 1, "the body of `{operation}` ran {runs} times for this key, and not once: {calls:#?}");
    }

    /// Checks that the last call of this key was answered without a run of its own, with the outcome of another.
    ///
    /// # Panics
    ///
    /// If it was not, or there was none.
    #[track_caller]
    pub fn assert_replayed(&self, operation: &str, key: impl Serialize) {
        let calls = self.calls_of(operation, key);
        let last = calls.last().and_then(|call| call.disposition);
        let is_replay = matches!(last, Some(Disposition::Replayed | Disposition::Waited));
        assert!(is_replay, "the last call of `{operation}` with this key was not replayed: {calls:#?}");
    }

    /// Checks that the last call of this key was refused with the error of this [code](crate::Error::code), such as `mismatch`.
    ///
    /// # Panics
    ///
    /// If it was not, or there was none.
    #[track_caller]
    pub fn assert_refused(&self, operation: &str, key: impl Serialize, code: &str) {
        let calls = self.calls_of(operation, key);
        let last = calls.last().and_then(|call| call.refused);
        assert!(
            last == Some(code),
            "the last call of `{operation}` with this key was not refused as `{code}`: {calls:#?}"
        );
    }

    /// The last call of a key whose body has run, and that is not answered yet.
    fn with_run(&self, key: KeyDigest, change: impl FnOnce(&mut ProbedCall)) -> bool {
        let mut calls = lock(&self.calls);
        let is_open =
            |call: &&mut ProbedCall| call.key == Some(key) && call.attempt.is_some() && call.disposition.is_none();
        calls.iter_mut().rev().find(is_open).map(change).is_some()
    }
}

/// Without the child keys, which are as good as keys.
impl fmt::Debug for ProbedCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { operation, key, attempt, child_keys, disposition, refused } = self;
        let labels: Vec<_> = child_keys.iter().map(|(label, _)| label).collect();
        f.debug_struct("ProbedCall")
            .field("operation", operation)
            .field("key", key)
            .field("attempt", attempt)
            .field("child_keys", &labels)
            .field("disposition", disposition)
            .field("refused", refused)
            .finish()
    }
}

impl fmt::Debug for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Probe").field("calls", &self.calls()).finish()
    }
}

fn probe() -> Option<Probe> {
    Surroundings::read(|around| around.probe.clone()).flatten()
}

/// A body begins.
pub(crate) fn began(key: &RecordKey, attempt: u32) {
    let Some(probe) = probe() else { return };
    lock(&probe.calls).push(ProbedCall {
        operation: key.operation().to_owned(),
        key: Some(key.digest()),
        attempt: Some(attempt),
        child_keys: Vec::new(),
        disposition: None,
        refused: None,
    });
}

/// A call that is told to its caller.
pub(crate) struct Told<'a> {
    pub(crate) about: About<'a>,
    /// True if its own body has run.
    pub(crate) ran: bool,
}

impl Told<'_> {
    pub(crate) fn answered(self, disposition: Disposition) {
        self.note(disposition, None);
    }

    pub(crate) fn refused(self, code: &'static str) {
        self.note(Disposition::Refused, Some(code));
    }

    /// A call whose body has run is noted already.
    fn note(self, disposition: Disposition, refused: Option<&'static str>) {
        let Some(probe) = probe() else { return };
        let Self { about, ran } = self;
        let key = about.key().map(RecordKey::digest);
        let end = |call: &mut ProbedCall| (call.disposition, call.refused) = (Some(disposition), refused);
        if ran && key.is_some_and(|key| probe.with_run(key, end)) {
            return;
        }
        lock(&probe.calls).push(ProbedCall {
            operation: about.operation().to_owned(),
            key,
            attempt: None,
            child_keys: Vec::new(),
            disposition: Some(disposition),
            refused,
        });
    }
}

/// A body has made a child key.
pub(crate) fn made_child_key(record: &RecordKey, label: &str, key: &str) {
    if let Some(probe) = probe() {
        probe.with_run(record.digest(), |call| call.child_keys.push((label.to_owned(), key.to_owned())));
    }
}
