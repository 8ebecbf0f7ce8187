//! A store that writes down what it is asked and what it answers.

use std::time::Duration;

use idempotent_runtime::store::{
    BoxFuture, ClaimOutcome, ClaimRequest, Cursor, Finished, Nonce, Outcome, Page, Record, RecordKey, Store,
    StoreResult, Subscription, Token, Transition,
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

    async fn step(
        &self,
        key: &RecordKey,
        nonce: &Nonce,
        step: Step,
        answer: BoxFuture<'_, StoreResult<Transition>>,
    ) -> StoreResult<Transition> {
        let claim = number(nonce);
        self.log.push(What::Asked { claim, step, record: key.as_str().to_owned(), call: None });
        let answer = answer.await;
        let told = match &answer {
            Ok(Transition::Applied) => Told::Applied,
            Ok(Transition::Lost) => Told::Lost,
            Err(_) => Told::Failed,
        };
        self.log.push(What::Told { claim, step, told });
        answer
    }
}

impl<S: Store> Store for Recorder<S> {
    fn claim<'a>(&'a self, key: &'a RecordKey, request: &'a ClaimRequest) -> BoxFuture<'a, StoreResult<ClaimOutcome>> {
        Box::pin(async move {
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
                Err(_) => Told::Failed,
            };
            self.log.push(What::Told { claim, step, told });
            answer
        })
    }

    fn renew<'a>(
        &'a self,
        key: &'a RecordKey,
        token: &'a Token,
        lease: Duration,
        ttl: Duration,
    ) -> BoxFuture<'a, StoreResult<Transition>> {
        Box::pin(self.step(key, &token.nonce, Step::Renew, self.store.renew(key, token, lease, ttl)))
    }

    fn complete<'a>(
        &'a self,
        key: &'a RecordKey,
        token: &'a Token,
        outcome: &'a Outcome,
        ttl: Duration,
    ) -> BoxFuture<'a, StoreResult<Transition>> {
        Box::pin(self.step(key, &token.nonce, Step::Complete, self.store.complete(key, token, outcome, ttl)))
    }

    fn release<'a>(&'a self, key: &'a RecordKey, token: &'a Token) -> BoxFuture<'a, StoreResult<Transition>> {
        Box::pin(self.step(key, &token.nonce, Step::Release, self.store.release(key, token)))
    }

    fn abandon<'a>(
        &'a self,
        key: &'a RecordKey,
        token: &'a Token,
        ttl: Duration,
    ) -> BoxFuture<'a, StoreResult<Transition>> {
        Box::pin(self.step(key, &token.nonce, Step::Abandon, self.store.abandon(key, token, ttl)))
    }

    fn forget<'a>(&'a self, key: &'a RecordKey) -> BoxFuture<'a, StoreResult<bool>> {
        self.log.push(What::Forgot { record: key.as_str().to_owned() });
        self.store.forget(key)
    }

    fn fence<'a>(&'a self, key: &'a RecordKey, token: &'a Token) -> BoxFuture<'a, StoreResult<Option<u64>>> {
        self.store.fence(key, token)
    }

    fn inspect<'a>(&'a self, key: &'a RecordKey) -> BoxFuture<'a, StoreResult<Option<Record>>> {
        self.store.inspect(key)
    }

    fn list<'a>(
        &'a self,
        operation: Option<&'a str>,
        after: Option<&'a Cursor>,
        limit: usize,
    ) -> BoxFuture<'a, StoreResult<Page>> {
        self.store.list(operation, after, limit)
    }

    fn purge_expired(&self, limit: usize) -> BoxFuture<'_, StoreResult<usize>> {
        self.store.purge_expired(limit)
    }

    fn subscribe<'a>(&'a self, key: &'a RecordKey) -> BoxFuture<'a, StoreResult<Subscription>> {
        self.store.subscribe(key)
    }

    fn peek(&self, key: &RecordKey) -> Option<Finished> {
        self.store.peek(key)
    }
}
