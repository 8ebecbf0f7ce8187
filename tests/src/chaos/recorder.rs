//! A store that writes down what it is asked and what it answers.

use std::time::Duration;

use async_trait::async_trait;
use idempotent_runtime::store::{
    self, Appended, BoxFuture, ClaimOutcome, ClaimRequest, Cursor, DeadLetters, Finished, Nonce, Outcome, Page, Record,
    RecordKey, ResolveRequest, Resolved, Store, StoreResult, Subscription, Suspension, Token, Transition, Why,
    immediate::Immediate, transactional::Transactional,
};

use super::history::{Log, Step, Told, What};

tokio::task_local! {
    /// The call that the task makes.
    pub static CALL: u64;
}

/// Records the steps of claims, and forwards everything.
#[derive(Debug)]
pub struct Recorder<S> {
    store: S,
    log: Log,
}

/// Half of a nonce names its claim: with the other half missing it proves nothing.
fn number(nonce: &Nonce) -> u64 {
    nonce.as_bytes().iter().take(8).fold(0, |number, &byte| number << 8 | u64::from(byte))
}

impl<S: Store> Recorder<S> {
    pub const fn new(store: S, log: Log) -> Self {
        Self { store, log }
    }

    async fn step<T: PartialEq>(
        &self,
        key: &RecordKey,
        nonce: &Nonce,
        step: Step,
        answer: BoxFuture<'_, StoreResult<T>>,
        applied: T,
    ) -> StoreResult<T> {
        let claim = number(nonce);
        self.log.push(What::Asked { claim, step, record: key.as_str().to_owned(), call: None });
        let answer = answer.await;
        let told = match &answer {
            Ok(told) if *told == applied => Told::Applied,
            Ok(_) => Told::Lost,
            Err(_) => Told::Failed,
        };
        self.log.push(What::Told { claim, step, told });
        answer
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl<S: Store> Store for Recorder<S> {
    async fn claim(&self, key: &RecordKey, request: &ClaimRequest) -> StoreResult<ClaimOutcome> {
        let (claim, step) = (number(&request.nonce), Step::Claim);
        let call = CALL.try_with(|&call| call).ok();
        self.log.push(What::Asked { claim, step, record: key.as_str().to_owned(), call });
        let answer = self.store.claim(key, request).await;
        let told = match &answer {
            Ok(ClaimOutcome::Claimed { attempt, .. }) => Told::Granted { attempt: *attempt },
            Ok(ClaimOutcome::InFlight { .. }) => Told::InFlight,
            Ok(ClaimOutcome::Done(_)) => Told::Done,
            Ok(ClaimOutcome::Abandoned { .. }) => Told::Abandoned,
            Ok(ClaimOutcome::Mismatch) => Told::Mismatch,
            Ok(other) => panic!("an outcome that the checker does not know: {other:?}"),
            Err(_) => Told::Failed,
        };
        self.log.push(What::Told { claim, step, told });
        answer
    }

    async fn renew(&self, key: &RecordKey, token: &Token, lease: Duration, ttl: Duration) -> StoreResult<Transition> {
        self.step(key, &token.nonce, Step::Renew, self.store.renew(key, token, lease, ttl), Transition::Applied).await
    }

    async fn complete(
        &self,
        key: &RecordKey,
        token: &Token,
        outcome: &Outcome,
        ttl: Duration,
    ) -> StoreResult<Transition> {
        self.step(key, &token.nonce, Step::Complete, self.store.complete(key, token, outcome, ttl), Transition::Applied)
            .await
    }

    async fn release(&self, key: &RecordKey, token: &Token, keep: Duration) -> StoreResult<Transition> {
        self.step(key, &token.nonce, Step::Release, self.store.release(key, token, keep), Transition::Applied).await
    }

    async fn suspend(
        &self,
        key: &RecordKey,
        token: &Token,
        why: Why,
        not_before: Duration,
        keep: Duration,
    ) -> StoreResult<Suspension> {
        let step = match why {
            Why::Abandoned => Step::Abandon,
            Why::Unstarted => Step::GiveBack,
            other => panic!("a reason that the checker does not know: {other:?}"),
        };
        let answer = self.store.suspend(key, token, why, not_before, keep);
        self.step(key, &token.nonce, step, answer, Suspension::Applied).await
    }

    async fn append(
        &self,
        key: &RecordKey,
        token: &Token,
        step: &store::Step,
        lease: Duration,
        ttl: Duration,
    ) -> StoreResult<Appended> {
        self.store.append(key, token, step, lease, ttl).await
    }

    async fn steps(&self, key: &RecordKey, token: &Token) -> StoreResult<Option<Vec<store::Step>>> {
        self.store.steps(key, token).await
    }

    async fn forget(&self, key: &RecordKey) -> StoreResult<bool> {
        self.log.push(What::Forgot { record: key.as_str().to_owned() });
        self.store.forget(key).await
    }

    async fn fence(&self, key: &RecordKey, token: &Token) -> StoreResult<Option<u64>> {
        self.store.fence(key, token).await
    }

    async fn resolve(&self, key: &RecordKey, request: &ResolveRequest) -> StoreResult<Resolved> {
        self.store.resolve(key, request).await
    }

    async fn inspect(&self, key: &RecordKey) -> StoreResult<Option<Record>> {
        self.store.inspect(key).await
    }

    async fn list(&self, operation: Option<&str>, after: Option<&Cursor>, limit: usize) -> StoreResult<Page> {
        self.store.list(operation, after, limit).await
    }

    async fn purge_expired(&self, limit: usize) -> StoreResult<usize> {
        self.store.purge_expired(limit).await
    }

    async fn subscribe(&self, key: &RecordKey) -> StoreResult<Subscription> {
        self.store.subscribe(key).await
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

    fn peek(&self, key: &RecordKey) -> Option<Finished> {
        self.store.peek(key)
    }

    fn at_hand(&self, key: &RecordKey) -> Option<Finished> {
        self.peek(key)
    }
}
