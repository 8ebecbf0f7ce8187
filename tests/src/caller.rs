//! Callers, as far apart as processes are for the engine, and what their bodies did.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use idempotent_runtime::{
    Idempotency, Store,
    testing::{Fault, FaultyStore, Method},
};

/// A handle, and its own view of the store, which can be made to fail.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The handle.
    pub idempotency: Idempotency,
    /// The store, as this caller sees it.
    pub store: FaultyStore<Arc<dyn Store>>,
}

impl Caller {
    /// Has every call ask the store, also where it could answer without.
    #[must_use]
    pub fn without_peeking(self) -> Self {
        self.store.always(Method::Peek, Fault::LOST_REQUEST);
        self
    }

    /// Counts the calls of the store's methods, without peeks.
    #[must_use]
    pub fn calls(&self) -> usize {
        calls(&self.store)
    }
}

/// Counts the calls of a store's methods, without peeks.
#[must_use]
pub fn calls(store: &FaultyStore<Arc<dyn Store>>) -> usize {
    use Method::{
        Append, Claim, Complete, Fence, Forget, Inspect, List, PurgeExpired, Release, Renew, Resolve, Steps, Subscribe,
        Suspend,
    };
    let asking = [
        Claim,
        Renew,
        Complete,
        Release,
        Suspend,
        Append,
        Steps,
        Fence,
        Forget,
        Resolve,
        Inspect,
        List,
        PurgeExpired,
        Subscribe,
    ];
    asking.map(|method| store.calls(method)).into_iter().sum()
}

/// A ledger that only counts. Cloning shares it.
#[derive(Clone, Debug, Default)]
pub struct Effects(Arc<AtomicU64>);

impl Effects {
    /// A ledger without entries.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one, and returns its number, from 1.
    #[expect(clippy::must_use_candidate, reason = "most bodies only count")]
    pub fn happen(&self) -> u64 {
        self.0.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// The number of entries.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}
