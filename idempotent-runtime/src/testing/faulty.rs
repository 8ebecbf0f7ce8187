//! A store that fails, hangs and counts as a test tells it to.

mod beyond;

use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use async_trait::async_trait;
use tokio::sync::watch;

use crate::{
    lock::lock,
    store::{
        Appended, BoxFuture, ClaimOutcome, ClaimRequest, Cursor, DeadLetters, Finished, Outcome, Page, Record,
        RecordKey, ResolveRequest, Resolved, Step, Store, StoreError, StoreErrorKind, StoreResult, Subscription,
        Suspension, Token, Transition, Why, immediate::Immediate, transactional::Transactional,
    },
};

/// A method of [`Store`], or of what a store offers beyond it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "they are the names of the methods")]
pub enum Method {
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
    Peek,
    Bury,
    Put,
    Letters,
    Replaying,
    Replay,
    WorkedOff,
    DeadAgain,
    Discard,
    Savepoint,
    /// [`Transactional::claim`].
    ClaimInside,
    /// [`Transactional::inspect`].
    InspectInside,
    /// [`Transactional::complete`].
    CompleteInside,
    End,
    Owns,
    Undo,
    Keep,
}

impl Method {
    const COUNT: usize = Self::Keep as usize + 1;
}

/// A fault that a call meets. A [`peek`](Store::peek), which cannot fail or wait, answers `None` instead.
#[derive(Clone, Debug)]
pub enum Fault {
    /// The call fails and nothing was applied: the request was lost.
    FailBefore(StoreErrorKind),
    /// The call fails and everything was applied: the reply was lost.
    FailAfter(StoreErrorKind),
    /// The call waits at the gate and goes on when that opens. If it never opens, the store hangs.
    HoldBefore(Gate),
    /// The call is applied, and its reply waits at the gate.
    HoldAfter(Gate),
    /// The call takes this much longer, on tokio's clock.
    Delay(Duration),
}

impl Fault {
    /// The most common request that is lost.
    pub const LOST_REQUEST: Self = Self::FailBefore(StoreErrorKind::Unavailable);
    /// The most common reply that is lost.
    pub const LOST_REPLY: Self = Self::FailAfter(StoreErrorKind::Unavailable);
}

/// A gate at which calls wait until a test lets them go on, so that the test needs no sleep. Cloning shares the gate.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// use idempotent_runtime::{Store, store::{RecordKey, memory::MemoryStore}};
/// use idempotent_runtime::testing::{Fault, FaultyStore, Gate, Method};
///
/// let store = FaultyStore::new(MemoryStore::new());
/// let gate = Gate::new();
/// store.next(Method::Forget, [Fault::HoldAfter(gate.clone())]);
///
/// let key = "charge|1".parse::<RecordKey>().unwrap();
/// let held = store.clone();
/// let call = tokio::spawn(async move { held.forget(&key).await });
/// gate.reached(1).await;
/// assert!(!call.is_finished());
/// gate.open();
/// assert_eq!(call.await.unwrap().unwrap(), false);
/// # });
/// ```
#[derive(Clone, Debug)]
pub struct Gate {
    state: Arc<watch::Sender<GateState>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct GateState {
    open: bool,
    reached: usize,
}

impl Gate {
    /// A closed one.
    #[must_use]
    pub fn new() -> Self {
        Self { state: Arc::new(watch::Sender::new(GateState::default())) }
    }

    /// Lets all calls go on, those that wait and those that come.
    pub fn open(&self) {
        self.state.send_modify(|state| state.open = true);
    }

    /// Resolves when this many calls have come to the gate, gone or not.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: nothing is counted by waiting.
    pub async fn reached(&self, calls: usize) {
        self.until(|state| state.reached >= calls).await;
    }

    /// Waits at the gate, for bodies and others that are no calls of a store.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a call that is dropped here has come to the gate, and does not go on.
    pub async fn pass(&self) {
        self.state.send_modify(|state| state.reached += 1);
        self.until(|state| state.open).await;
    }

    async fn until(&self, met: impl FnMut(&GateState) -> bool) {
        // The sender is ours, so it cannot be gone.
        let _ = self.state.subscribe().wait_for(met).await;
    }
}

impl Default for Gate {
    fn default() -> Self {
        Self::new()
    }
}

/// A decorator that counts the calls of each method and has them fail, hang or wait. Cloning shares all of it.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// use idempotent_runtime::{Store, store::{RecordKey, memory::MemoryStore}};
/// use idempotent_runtime::testing::{Fault, FaultyStore, Method};
///
/// let store = FaultyStore::new(MemoryStore::new());
/// let key = "charge|1".parse::<RecordKey>().unwrap();
/// store.next(Method::Inspect, [Fault::LOST_REQUEST]);
/// assert!(store.inspect(&key).await.is_err());
/// assert!(store.inspect(&key).await.is_ok());
/// assert_eq!(store.calls(Method::Inspect), 2);
/// # });
/// ```
pub struct FaultyStore<S> {
    shared: Arc<FaultyShared<S>>,
}

struct FaultyShared<S> {
    inner: S,
    methods: [Script; Method::COUNT],
}

/// The calls of a method so far, and its faults to come.
struct Script {
    calls: watch::Sender<usize>,
    faults: Mutex<Faults>,
}

#[derive(Default)]
struct Faults {
    next: VecDeque<Fault>,
    always: Option<Fault>,
}

impl<S: Store> FaultyStore<S> {
    /// Decorates a store, and changes nothing yet.
    #[must_use]
    pub fn new(inner: S) -> Self {
        let methods = std::array::from_fn(|_| Script { calls: watch::Sender::new(0), faults: Mutex::default() });
        Self { shared: Arc::new(FaultyShared { inner, methods }) }
    }

    /// The store behind, without faults.
    #[must_use]
    pub fn inner(&self) -> &S {
        &self.shared.inner
    }

    /// The next calls of a method meet these, one each, after those that were set before.
    pub fn next(&self, method: Method, faults: impl IntoIterator<Item = Fault>) {
        self.shared.faults(method).next.extend(faults);
    }

    /// All calls of a method meet this, when none is set for the next.
    pub fn always(&self, method: Method, fault: Fault) {
        self.shared.faults(method).always = Some(fault);
    }

    /// No call meets a fault any more. Calls that wait at a gate go on waiting.
    pub fn heal(&self) {
        for script in &self.shared.methods {
            *lock(&script.faults) = Faults::default();
        }
    }

    /// The number of calls of a method, those that failed included.
    #[must_use]
    pub fn calls(&self, method: Method) -> usize {
        *self.shared.script(method).calls.borrow()
    }

    /// Resolves when a method has been called this often.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: nothing is counted by waiting.
    pub async fn called(&self, method: Method, calls: usize) {
        // The sender is ours, so it cannot be gone.
        let _ = self.shared.script(method).calls.subscribe().wait_for(|&called| called >= calls).await;
    }
}

impl<S> Clone for FaultyStore<S> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<S: fmt::Debug> fmt::Debug for FaultyStore<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("FaultyStore").field(&self.shared.inner).finish()
    }
}

impl<S: Store> FaultyShared<S> {
    fn at_once(&self) -> StoreResult<&dyn Immediate> {
        let none = || StoreError::new(StoreErrorKind::Unavailable, "the store behind has no steps without futures");
        self.inner.immediate().ok_or_else(none)
    }

    fn count(&self, method: Method) {
        self.script(method).calls.send_modify(|calls| *calls += 1);
    }

    fn script(&self, method: Method) -> &Script {
        &self.methods[method as usize]
    }

    fn faults(&self, method: Method) -> MutexGuard<'_, Faults> {
        lock(&self.script(method).faults)
    }

    /// Counts a call and takes the fault that it meets.
    fn meet(&self, method: Method) -> Option<Fault> {
        self.count(method);
        let mut faults = self.faults(method);
        faults.next.pop_front().or_else(|| faults.always.clone())
    }

    async fn call<'a, T>(
        &'a self,
        method: Method,
        call: impl FnOnce(&'a S) -> BoxFuture<'a, StoreResult<T>> + Send,
    ) -> StoreResult<T> {
        let inner = &self.inner;
        match self.meet(method) {
            None => call(inner).await,
            Some(Fault::FailBefore(kind)) => Err(StoreError::new(kind, "a fault before the call, as the test set it")),
            Some(Fault::FailAfter(kind)) => {
                call(inner).await?;
                Err(StoreError::new(kind, "a fault after the call, as the test set it"))
            }
            Some(Fault::HoldBefore(gate)) => {
                gate.pass().await;
                call(inner).await
            }
            Some(Fault::HoldAfter(gate)) => {
                let reply = call(inner).await;
                gate.pass().await;
                reply
            }
            Some(Fault::Delay(delay)) => {
                tokio::time::sleep(delay).await;
                call(inner).await
            }
        }
    }
}

/// Asked only as long as no fault is set for these steps: [`FaultyStore`] sees to that.
impl<S: Store> Immediate for FaultyShared<S> {
    fn claim(&self, key: &RecordKey, request: &ClaimRequest) -> StoreResult<ClaimOutcome> {
        self.count(Method::Claim);
        self.at_once()?.claim(key, request)
    }

    fn complete(&self, key: &RecordKey, token: &Token, outcome: &Outcome, ttl: Duration) -> StoreResult<Transition> {
        self.count(Method::Complete);
        self.at_once()?.complete(key, token, outcome, ttl)
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl<S: Store> Store for FaultyStore<S> {
    fn immediate(&self) -> Option<&dyn Immediate> {
        self.shared.inner.immediate()?;
        let quiet = |method| {
            let faults = self.shared.faults(method);
            faults.next.is_empty() && faults.always.is_none()
        };
        (quiet(Method::Claim) && quiet(Method::Complete)).then_some(&*self.shared)
    }

    async fn claim(&self, key: &RecordKey, request: &ClaimRequest) -> StoreResult<ClaimOutcome> {
        self.shared.call(Method::Claim, move |inner| inner.claim(key, request)).await
    }

    async fn renew(&self, key: &RecordKey, token: &Token, lease: Duration, ttl: Duration) -> StoreResult<Transition> {
        self.shared.call(Method::Renew, move |inner| inner.renew(key, token, lease, ttl)).await
    }

    async fn complete(
        &self,
        key: &RecordKey,
        token: &Token,
        outcome: &Outcome,
        ttl: Duration,
    ) -> StoreResult<Transition> {
        self.shared.call(Method::Complete, move |inner| inner.complete(key, token, outcome, ttl)).await
    }

    async fn release(&self, key: &RecordKey, token: &Token, keep: Duration) -> StoreResult<Transition> {
        self.shared.call(Method::Release, move |inner| inner.release(key, token, keep)).await
    }

    async fn suspend(
        &self,
        key: &RecordKey,
        token: &Token,
        why: Why,
        not_before: Duration,
        keep: Duration,
    ) -> StoreResult<Suspension> {
        self.shared.call(Method::Suspend, move |inner| inner.suspend(key, token, why, not_before, keep)).await
    }

    async fn append(
        &self,
        key: &RecordKey,
        token: &Token,
        step: &Step,
        lease: Duration,
        ttl: Duration,
    ) -> StoreResult<Appended> {
        self.shared.call(Method::Append, move |inner| inner.append(key, token, step, lease, ttl)).await
    }

    async fn steps(&self, key: &RecordKey, token: &Token) -> StoreResult<Option<Vec<Step>>> {
        self.shared.call(Method::Steps, move |inner| inner.steps(key, token)).await
    }

    async fn fence(&self, key: &RecordKey, token: &Token) -> StoreResult<Option<u64>> {
        self.shared.call(Method::Fence, move |inner| inner.fence(key, token)).await
    }

    async fn forget(&self, key: &RecordKey) -> StoreResult<bool> {
        self.shared.call(Method::Forget, move |inner| inner.forget(key)).await
    }

    async fn resolve(&self, key: &RecordKey, request: &ResolveRequest) -> StoreResult<Resolved> {
        self.shared.call(Method::Resolve, move |inner| inner.resolve(key, request)).await
    }

    async fn inspect(&self, key: &RecordKey) -> StoreResult<Option<Record>> {
        self.shared.call(Method::Inspect, move |inner| inner.inspect(key)).await
    }

    async fn list(&self, operation: Option<&str>, after: Option<&Cursor>, limit: usize) -> StoreResult<Page> {
        self.shared.call(Method::List, move |inner| inner.list(operation, after, limit)).await
    }

    async fn purge_expired(&self, limit: usize) -> StoreResult<usize> {
        self.shared.call(Method::PurgeExpired, move |inner| inner.purge_expired(limit)).await
    }

    async fn subscribe(&self, key: &RecordKey) -> StoreResult<Subscription> {
        self.shared.call(Method::Subscribe, move |inner| inner.subscribe(key)).await
    }

    fn dead_letters(&self) -> Option<&dyn DeadLetters> {
        self.shared.inner.dead_letters().map(|_| &*self.shared as &dyn DeadLetters)
    }

    fn transactional(&self) -> Option<&dyn Transactional> {
        self.shared.inner.transactional().map(|_| &*self.shared as &dyn Transactional)
    }

    fn peek(&self, key: &RecordKey) -> Option<Finished> {
        if self.shared.meet(Method::Peek).is_some() { None } else { self.shared.inner.peek(key) }
    }

    fn at_hand(&self, key: &RecordKey) -> Option<Finished> {
        self.peek(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Fingerprint,
        store::{Nonce, State, memory::MemoryStore},
    };

    const LONG: Duration = Duration::from_secs(60);

    fn subject() -> (FaultyStore<MemoryStore>, RecordKey, ClaimRequest) {
        let request = ClaimRequest::new(Fingerprint::from_bytes([1; Fingerprint::LEN]), Nonce::random(), LONG, LONG);
        (FaultyStore::new(MemoryStore::new()), "test|1".parse::<RecordKey>().unwrap(), request)
    }

    #[tokio::test]
    async fn a_lost_request_is_not_applied_and_a_lost_reply_is() {
        let (store, key, request) = subject();
        store.next(Method::Claim, [Fault::LOST_REQUEST, Fault::FailAfter(StoreErrorKind::Refused)]);
        assert_eq!(store.claim(&key, &request).await.unwrap_err().kind(), StoreErrorKind::Unavailable);
        assert_eq!(store.inspect(&key).await.unwrap(), None);
        assert_eq!(store.claim(&key, &request).await.unwrap_err().kind(), StoreErrorKind::Refused);
        let state = store.inspect(&key).await.unwrap().map(|record| record.state);
        assert!(matches!(state, Some(State::Running { .. })));
        assert!(matches!(store.claim(&key, &request).await, Ok(ClaimOutcome::Claimed { attempt: 1, .. })));
        assert_eq!((store.calls(Method::Claim), store.calls(Method::Inspect)), (3, 2));
    }

    #[tokio::test]
    async fn always_comes_after_next_and_ends_with_heal() {
        let (store, key, _) = subject();
        store.always(Method::Forget, Fault::LOST_REQUEST);
        store.next(Method::Forget, [Fault::FailBefore(StoreErrorKind::Full)]);
        let kinds = [(); 3].map(|()| store.forget(&key));
        for (call, kind) in
            kinds.into_iter().zip([StoreErrorKind::Full, StoreErrorKind::Unavailable, StoreErrorKind::Unavailable])
        {
            assert_eq!(call.await.unwrap_err().kind(), kind);
        }
        store.heal();
        assert!(!store.forget(&key).await.unwrap());
    }

    #[tokio::test]
    async fn a_gate_holds_the_request_or_the_reply() {
        for (fault, applied) in [(Fault::HoldBefore as fn(Gate) -> Fault, false), (Fault::HoldAfter, true)] {
            let (store, key, request) = subject();
            let gate = Gate::new();
            store.next(Method::Claim, [fault(gate.clone())]);
            let (held, claimed) = (store.clone(), key.clone());
            let call = tokio::spawn(async move { held.claim(&claimed, &request).await });
            gate.reached(1).await;
            assert_eq!(store.inspect(&key).await.unwrap().is_some(), applied);
            assert!(!call.is_finished());
            gate.open();
            assert!(matches!(call.await.unwrap(), Ok(ClaimOutcome::Claimed { .. })));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_delay_passes_on_tokio_s_clock() {
        let (store, key, _) = subject();
        store.next(Method::Forget, [Fault::Delay(LONG)]);
        let start = tokio::time::Instant::now();
        assert!(!store.forget(&key).await.unwrap());
        assert_eq!(start.elapsed(), LONG);
    }

    #[tokio::test]
    async fn calls_can_be_awaited_and_peeks_hidden() {
        let (store, key, request) = subject();
        let counted = store.clone();
        let waiter = tokio::spawn(async move { counted.called(Method::Complete, 1).await });
        let Ok(ClaimOutcome::Claimed { token, .. }) = store.claim(&key, &request).await else { panic!("vacant") };
        assert!(!waiter.is_finished());
        let done = store.complete(&key, &token, &Outcome::Ok("1".into()), LONG).await;
        assert_eq!(done.unwrap(), Transition::Applied);
        waiter.await.unwrap();
        assert!(store.peek(&key).is_some());
        store.always(Method::Peek, Fault::LOST_REQUEST);
        assert!(store.peek(&key).is_none());
    }
}
