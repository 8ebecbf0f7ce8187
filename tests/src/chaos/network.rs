//! A simulated network before a store: slow, lossy, and late.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use async_trait::async_trait;
use idempotent_runtime::{
    store::{
        Appended, BoxFuture, ClaimOutcome, ClaimRequest, Cursor, DeadLetters, Finished, Outcome, Page, Record,
        RecordKey, ResolveRequest, Resolved, Step, Store, StoreError, StoreErrorKind, StoreResult, Subscription,
        Suspension, Token, Transition, Why, immediate::Immediate, transactional::Transactional,
    },
    testing::ManualClock,
};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tokio::time::{Instant, sleep};

/// The time for which a client waits for an answer.
const TIMEOUT: Duration = Duration::from_millis(100);

/// The store's clock, which follows tokio's: with time paused, hours pass in seconds.
#[derive(Clone, Debug)]
pub struct VirtualClock {
    pub store: ManualClock,
    start: Instant,
}

impl VirtualClock {
    #[must_use]
    pub fn start() -> Self {
        Self { store: ManualClock::new(), start: Instant::now() }
    }

    fn follow(&self) {
        self.store.advance(self.start.elapsed().saturating_sub(self.store.now()));
    }
}

/// One process's way to the store.
#[derive(Debug)]
pub struct Network {
    store: Arc<dyn Store>,
    clock: VirtualClock,
    rng: Mutex<StdRng>,
    /// True while the network loses messages. Shared by all processes.
    stormy: Arc<AtomicBool>,
    /// True once the process was killed: none of its questions reaches the store, and it gets no answer.
    dead: Arc<AtomicBool>,
}

impl Network {
    pub fn new(store: Arc<dyn Store>, clock: VirtualClock, seed: u64, stormy: Arc<AtomicBool>) -> Self {
        Self { store, clock, rng: Mutex::new(StdRng::seed_from_u64(seed)), stormy, dead: Arc::default() }
    }

    /// The switch that kills the process.
    #[must_use]
    pub fn dead(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.dead)
    }

    async fn pass<T: Send + 'static>(
        &self,
        ask: impl FnOnce(Arc<dyn Store>) -> BoxFuture<'static, StoreResult<T>> + Send + 'static,
    ) -> StoreResult<T> {
        let (fate, before, after) = {
            let mut rng = self.rng.lock().unwrap_or_else(PoisonError::into_inner);
            let latest = if rng.random_bool(0.05) { 500_000 } else { 5_000 };
            let fate = if self.stormy.load(Relaxed) { rng.random_range(0..100) } else { 100 };
            (fate, rng.random_range(0..latest), rng.random_range(0..latest))
        };
        let (before, after) = (Duration::from_micros(before), Duration::from_micros(after));
        let (clock, store, dead) = (self.clock.clone(), Arc::clone(&self.store), Arc::clone(&self.dead));
        let asked = async move {
            sleep(before).await;
            if dead.load(Relaxed) {
                std::future::pending::<()>().await;
            }
            clock.follow();
            ask(store).await
        };
        let answer = match fate {
            0..4 => None,
            4..8 => {
                let _ = asked.await;
                None
            }
            // Lost to the caller, but under way: it reaches the store after the next try, or much later.
            8..14 => {
                tokio::spawn(async move {
                    sleep(TIMEOUT + after * 10).await;
                    let _ = asked.await;
                });
                None
            }
            _ => Some(asked.await),
        };
        match &answer {
            Some(_) => sleep(after).await,
            None => sleep(TIMEOUT).await,
        }
        if self.dead.load(Relaxed) {
            std::future::pending::<()>().await;
        }
        answer.unwrap_or_else(|| Err(StoreError::new(StoreErrorKind::Unavailable, "no answer")))
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl Store for Network {
    async fn claim(&self, key: &RecordKey, request: &ClaimRequest) -> StoreResult<ClaimOutcome> {
        let (key, request) = (key.clone(), request.clone());
        self.pass(move |store| Box::pin(async move { store.claim(&key, &request).await })).await
    }

    async fn renew(&self, key: &RecordKey, token: &Token, lease: Duration, ttl: Duration) -> StoreResult<Transition> {
        let (key, token) = (key.clone(), *token);
        self.pass(move |store| Box::pin(async move { store.renew(&key, &token, lease, ttl).await })).await
    }

    async fn complete(
        &self,
        key: &RecordKey,
        token: &Token,
        outcome: &Outcome,
        ttl: Duration,
    ) -> StoreResult<Transition> {
        let (key, token, outcome) = (key.clone(), *token, outcome.clone());
        self.pass(move |store| Box::pin(async move { store.complete(&key, &token, &outcome, ttl).await })).await
    }

    async fn release(&self, key: &RecordKey, token: &Token, keep: Duration) -> StoreResult<Transition> {
        let (key, token) = (key.clone(), *token);
        self.pass(move |store| Box::pin(async move { store.release(&key, &token, keep).await })).await
    }

    async fn suspend(
        &self,
        key: &RecordKey,
        token: &Token,
        why: Why,
        not_before: Duration,
        keep: Duration,
    ) -> StoreResult<Suspension> {
        let (key, token) = (key.clone(), *token);
        self.pass(move |store| Box::pin(async move { store.suspend(&key, &token, why, not_before, keep).await })).await
    }

    async fn append(
        &self,
        key: &RecordKey,
        token: &Token,
        step: &Step,
        lease: Duration,
        ttl: Duration,
    ) -> StoreResult<Appended> {
        let (key, token, step) = (key.clone(), *token, step.clone());
        self.pass(move |store| Box::pin(async move { store.append(&key, &token, &step, lease, ttl).await })).await
    }

    async fn steps(&self, key: &RecordKey, token: &Token) -> StoreResult<Option<Vec<Step>>> {
        let (key, token) = (key.clone(), *token);
        self.pass(move |store| Box::pin(async move { store.steps(&key, &token).await })).await
    }

    async fn fence(&self, key: &RecordKey, token: &Token) -> StoreResult<Option<u64>> {
        let (key, token) = (key.clone(), *token);
        self.pass(move |store| Box::pin(async move { store.fence(&key, &token).await })).await
    }

    async fn forget(&self, key: &RecordKey) -> StoreResult<bool> {
        let key = key.clone();
        self.pass(move |store| Box::pin(async move { store.forget(&key).await })).await
    }

    async fn resolve(&self, key: &RecordKey, request: &ResolveRequest) -> StoreResult<Resolved> {
        let (key, request) = (key.clone(), request.clone());
        self.pass(move |store| Box::pin(async move { store.resolve(&key, &request).await })).await
    }

    async fn inspect(&self, key: &RecordKey) -> StoreResult<Option<Record>> {
        let key = key.clone();
        self.pass(move |store| Box::pin(async move { store.inspect(&key).await })).await
    }

    async fn list(&self, operation: Option<&str>, after: Option<&Cursor>, limit: usize) -> StoreResult<Page> {
        self.store.list(operation, after, limit).await
    }

    async fn purge_expired(&self, limit: usize) -> StoreResult<usize> {
        self.store.purge_expired(limit).await
    }

    async fn subscribe(&self, key: &RecordKey) -> StoreResult<Subscription> {
        let key = key.clone();
        self.pass(move |store| Box::pin(async move { store.subscribe(&key).await })).await
    }

    fn dead_letters(&self) -> Option<&dyn DeadLetters> {
        None
    }

    fn transactional(&self) -> Option<&dyn Transactional> {
        None
    }

    fn immediate(&self) -> Option<&dyn Immediate> {
        None
    }

    /// None: nothing is at hand across a network.
    fn peek(&self, _: &RecordKey) -> Option<Finished> {
        None
    }

    fn at_hand(&self, key: &RecordKey) -> Option<Finished> {
        self.peek(key)
    }
}
