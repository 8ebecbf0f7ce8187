//! The state that all calls through one handle share.

use std::{
    fmt,
    sync::{Arc, atomic::AtomicUsize},
};

use super::{runs::Runs, single_flight::SingleFlight};
use crate::{readable::shortened, store::Store};

/// The store of a handle, its limits, and the calls under way through it.
pub(crate) struct Shared {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) limits: Limits,
    pub(super) single_flight: SingleFlight,
    /// The number of calls that wait for a running duplicate.
    pub(super) waiters: AtomicUsize,
    /// The runs that have not ended.
    pub(crate) runs: Runs,
    caller: Option<Caller>,
}

/// Tells who makes the call that is under way.
pub(crate) type Caller = Arc<dyn Fn() -> Option<String> + Send + Sync>;

/// The most bytes that a claim says of its caller.
const MAX_CONTEXT_LEN: usize = 256;

impl Shared {
    pub(crate) fn new(store: Arc<dyn Store>, limits: Limits, caller: Option<Caller>) -> Self {
        let (single_flight, waiters) = (SingleFlight::new(), AtomicUsize::new(0));
        Self { store, limits, single_flight, waiters, runs: Runs::default(), caller }
    }

    /// The context of a claim that is made now: what the application says, or else the id of its request.
    pub(super) fn context(&self, request_id: Option<&str>) -> Option<Arc<str>> {
        let said = self.caller.as_ref().and_then(|caller| caller());
        said.as_deref().or(request_id).map(|context| shortened(context, MAX_CONTEXT_LEN).into())
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("store", &self.store).field("limits", &self.limits).finish_non_exhaustive()
    }
}

/// The limits that a handle was built with. Lengths are in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) max_key_len: usize,
    pub(crate) max_result_len: usize,
    pub(crate) max_waiters: usize,
    pub(crate) on_store_failure: OnStoreFailure,
    pub(crate) record_arguments: bool,
    pub(crate) max_arguments_len: usize,
    pub(crate) max_steps: usize,
    pub(crate) max_steps_len: usize,
    /// True if each duplicate runs its own body.
    #[cfg(feature = "testing")]
    pub(crate) runs_duplicates: bool,
}

impl Limits {
    /// The limit for recorded arguments, `None` where they are not recorded.
    pub(crate) fn recorded_len(&self) -> Option<usize> {
        self.record_arguments.then_some(self.max_arguments_len)
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_key_len: 1024,
            max_result_len: 1024 * 1024,
            max_waiters: 10_000,
            on_store_failure: OnStoreFailure::Fail,
            record_arguments: false,
            max_arguments_len: 64 * 1024,
            max_steps: 1_000,
            max_steps_len: 1024 * 1024,
            #[cfg(feature = "testing")]
            runs_duplicates: false,
        }
    }
}

/// The answer to a call whose claim found the store out of reach.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnStoreFailure {
    /// Answers [`Error::Store`](crate::Error::Store); the body does not run.
    #[default]
    Fail,
    /// Runs the body without protection, and says so in an event: duplicates can run, and nothing is stored.
    RunUnprotected,
}
