//! Keys, arguments, results and nonces are in no event, no `Debug` and no error: canaries that must not be seen.

use std::{collections::BTreeMap, error::Error as StdError, fmt::Write as _, sync::Mutex, time::Duration};

use async_trait::async_trait;
use idempotent_runtime::{
    Error, Execution, Idempotency, Operation, Store, StoreErrorKind, idempotent,
    store::{
        Appended, ClaimOutcome, ClaimRequest, Cursor, DeadLetters, Finished, Nonce, Outcome, Page, Record, RecordKey,
        ResolveRequest, Resolved, Step, StoreResult, Subscription, Suspension, Token, Transition, Why,
        immediate::Immediate, transactional::Transactional,
    },
    testing::{Fault, Method},
};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

use crate::{
    captured_log,
    support::{Backend, Caller, Failure, record_key, redis_key},
};
use idempotent_tests::on_every_store;

on_every_store!(canaries_are_in_no_event_no_debug_and_no_error);

const CANARIES: [&str; 4] = ["canarykey", "canaryargument", "canaryresult", "canaryerror"];

/// The caller of a function, with all that may be said about it.
#[derive(Default)]
struct Said(Mutex<String>);

impl Said {
    fn debug(&self, value: &dyn std::fmt::Debug) {
        writeln!(self.0.lock().expect("a lock"), "{value:?} {value:#?}").expect("a text");
    }

    fn error(&self, error: &(dyn StdError + 'static)) {
        let mut next = Some(error);
        while let Some(error) = next {
            self.debug(&error);
            writeln!(self.0.lock().expect("a lock"), "{error}").expect("a text");
            next = error.source();
        }
    }
}

#[idempotent(name = "canary.text", key = key, skip(caller, said), store = caller.idempotency, wait = "0s")]
async fn text(caller: &Caller, said: &Said, key: &str, argument: &str) -> Result<String, Failure> {
    let execution = Execution::current().expect("an execution");
    said.debug(&execution);
    said.debug(&execution.fence().await);
    tracing::info!("a body");
    assert_ne!(argument, "canaryargument panics");
    if argument == "canaryargument fails" {
        return Err(Failure::Unreachable);
    }
    Ok("canaryresult".to_owned())
}

/// The operation of [`text`], in a release that returns another type.
#[idempotent(name = "canary.text", key = key, skip(caller), store = caller.idempotency, wait = "0s")]
async fn number(caller: &Caller, key: &str, argument: &str) -> Result<u64, Failure> {
    panic!("{argument} ran again")
}

/// A result that cannot be decoded, and whose error quotes what it was given.
#[derive(Debug, Serialize)]
struct Picky(String);

impl<'de> Deserialize<'de> for Picky {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Err(serde::de::Error::custom(format!("unexpected {text}")))
    }
}

#[derive(Debug, Serialize, Deserialize)]
enum Refusal {
    Because(String),
    Elsewhere(u64),
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        panic!("{error}")
    }
}

async fn canaries_are_in_no_event_no_debug_and_no_error(backend: Backend) {
    captured_log::listen();
    let said = Said::default();
    let nonces = Arc::new(Mutex::new(Vec::new()));
    let recording = || Idempotency::builder().record_arguments(true);
    let caller = backend.caller_with(recording()).await;
    let spied = recording().build(Spy { inner: backend.store().await, nonces: Arc::clone(&nonces) });
    let plain = [caller.clone(), caller.clone().without_peeking()];

    // Executed, replayed, mismatched; with results of another type.
    for caller in &plain {
        for argument in ["canaryargument", "canaryargument", "canaryargument other"] {
            match text(caller, &said, "canarykey", argument).await {
                Ok(_) => {}
                Err(Failure::Idempotency(error)) => said.error(&error),
                Err(other) => panic!("{other:?}"),
            }
        }
        let undecodable = match number(caller, "canarykey", "canaryargument").await {
            Err(Failure::Idempotency(error @ Error::Undecodable(_))) => error,
            other => panic!("{other:?}"),
        };
        said.error(&undecodable);
    }
    let picky = || {
        caller
            .idempotency
            .call("canary.picky")
            .key("canarykey")
            .run(async { Ok::<_, Error>(Picky("canaryresult".into())) })
    };
    picky().await.expect("the body's own value");
    said.error(&picky().await.expect_err("undecodable"));

    // Kept errors, failed and panicking bodies, a store that fails at each step.
    let kept = Operation::new("canary.kept").keep_errors();
    for _ in 0..2 {
        let body = async { Err::<(), _>(Refusal::Because("canaryerror".to_owned())) };
        caller
            .idempotency
            .call(kept.clone())
            .key("canarykey")
            .arguments(&"canaryargument")
            .run(body)
            .await
            .expect_err("the error");
    }
    text(&caller, &said, "canarykey fails", "canaryargument fails").await.expect_err("the error");
    let panicking = tokio::spawn({
        let caller = caller.clone();
        async move { text(&caller, &Said::default(), "canarykey panics", "canaryargument panics").await.is_ok() }
    });
    assert!(panicking.await.is_err());
    for kind in [StoreErrorKind::Unavailable, StoreErrorKind::Full, StoreErrorKind::Corrupt, StoreErrorKind::Refused] {
        for method in [Method::Claim, Method::Complete, Method::Release] {
            caller.store.next(method, [Fault::FailBefore(kind)]);
            let key = format!("canarykey {kind:?} {method:?}");
            let argument = if method == Method::Release { "canaryargument fails" } else { "canaryargument" };
            if let Err(Failure::Idempotency(error)) = text(&caller, &said, &key, argument).await {
                said.error(&error);
            }
            caller.store.heal();
        }
    }
    let long = "canarykey".repeat(1000);
    let short = caller.idempotency.call("canary.key").key(&long).run(async { Ok::<_, Error>(()) });
    said.error(&short.await.expect_err("too long"));
    // What cannot be recorded: since it has no JSON, since it is too long.
    let without_json = BTreeMap::from([(("canaryargument", 1), "canaryargument")]);
    let refused = caller
        .idempotency
        .call("canary.map")
        .key("canarykey")
        .arguments(&without_json)
        .run(async { Ok::<_, Error>(()) });
    said.error(&refused.await.expect_err("no JSON"));
    let long = "canaryargument".repeat(10_000);
    let refused =
        caller.idempotency.call("canary.long").key("canarykey").arguments(&long).run(async { Ok::<_, Error>(()) });
    said.error(&refused.await.expect_err("too long"));
    if let Backend::Redis { server } = &backend {
        let key = record_key("canary.text", "canarykey2");
        server.command::<()>(&["SET", &redis_key(&key), "canaryresult", "PX", "60000"]).await;
        match text(&caller, &said, "canarykey2", "canaryargument").await {
            Err(Failure::Idempotency(error @ Error::Undecodable(_))) => said.error(&error),
            other => panic!("{other:?}"),
        }
    }

    // The parts of a store's protocol, and the nonces.
    let body = async { Ok::<_, Error>("canaryresult".to_owned()) };
    let operation = Operation::new("canary.spied").ttl(Duration::from_secs(60));
    spied.call(operation.clone()).key("canarykey").arguments(&"canaryargument").run(body).await.expect("a result");
    said.debug(&spied);
    said.debug(&operation);
    said.debug(&caller);
    let records = spied.list(None, None, 1000).await.expect("a page").records;
    let recorded = |record: &Record| record.arguments.as_ref().is_some_and(|bytes| bytes.starts_with(b"\"canaryarg"));
    assert!(records.iter().any(recorded), "nothing was recorded");
    for record in records {
        said.debug(&record);
    }
    let tokens = nonces.lock().expect("a lock").clone();
    assert!(!tokens.is_empty());
    for nonce in &tokens {
        said.debug(nonce);
        said.debug(&Token::new(*nonce));
    }

    let said = said.0.into_inner().expect("a lock");
    let text = captured_log::text();
    assert!(text.contains("a body") && text.contains("canary.text"), "nothing was listened to");
    assert!(said.contains("canary.text"), "nothing was said");
    assert!(said.contains("these differ: argument"), "no mismatch was told");
    // The bodies' own panics say their arguments, not in events.
    for canary in CANARIES {
        assert!(!text.contains(canary), "{canary} is in the events");
        assert!(!said.contains(canary), "{canary} is in a Debug or an error: {said}");
    }
    for nonce in tokens {
        let bytes = nonce.as_bytes();
        let hex = bytes.iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
        for shown in [format!("{bytes:?}"), hex.clone(), hex.to_uppercase()] {
            assert!(!text.contains(&shown) && !said.contains(&shown), "a nonce is shown");
        }
    }
}

/// Remembers the nonces that claims were made with.
#[derive(Debug)]
struct Spy {
    inner: Arc<dyn Store>,
    nonces: Arc<Mutex<Vec<Nonce>>>,
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl Store for Spy {
    async fn claim(&self, key: &RecordKey, request: &ClaimRequest) -> StoreResult<ClaimOutcome> {
        tracing::trace!(?key, ?request, "claim");
        self.nonces.lock().expect("a lock").push(request.nonce);

        let outcome = self.inner.claim(key, request).await;
        tracing::trace!(?outcome, "claimed");
        outcome
    }

    async fn complete(
        &self,
        key: &RecordKey,
        token: &Token,
        outcome: &Outcome,
        ttl: Duration,
    ) -> StoreResult<Transition> {
        tracing::trace!(?key, ?token, ?outcome, "complete");
        self.inner.complete(key, token, outcome, ttl).await
    }

    async fn renew(&self, key: &RecordKey, token: &Token, lease: Duration, ttl: Duration) -> StoreResult<Transition> {
        self.inner.renew(key, token, lease, ttl).await
    }

    async fn release(&self, key: &RecordKey, token: &Token, keep: Duration) -> StoreResult<Transition> {
        self.inner.release(key, token, keep).await
    }

    async fn suspend(
        &self,
        key: &RecordKey,
        token: &Token,
        why: Why,
        not_before: Duration,
        keep: Duration,
    ) -> StoreResult<Suspension> {
        self.inner.suspend(key, token, why, not_before, keep).await
    }

    async fn append(
        &self,
        key: &RecordKey,
        token: &Token,
        step: &Step,
        lease: Duration,
        ttl: Duration,
    ) -> StoreResult<Appended> {
        tracing::trace!(?step, "append");
        self.inner.append(key, token, step, lease, ttl).await
    }

    async fn steps(&self, key: &RecordKey, token: &Token) -> StoreResult<Option<Vec<Step>>> {
        self.inner.steps(key, token).await
    }

    async fn fence(&self, key: &RecordKey, token: &Token) -> StoreResult<Option<u64>> {
        self.inner.fence(key, token).await
    }

    async fn forget(&self, key: &RecordKey) -> StoreResult<bool> {
        self.inner.forget(key).await
    }

    async fn resolve(&self, key: &RecordKey, request: &ResolveRequest) -> StoreResult<Resolved> {
        self.inner.resolve(key, request).await
    }

    async fn inspect(&self, key: &RecordKey) -> StoreResult<Option<Record>> {
        self.inner.inspect(key).await
    }

    async fn list(&self, operation: Option<&str>, after: Option<&Cursor>, limit: usize) -> StoreResult<Page> {
        self.inner.list(operation, after, limit).await
    }

    async fn purge_expired(&self, limit: usize) -> StoreResult<usize> {
        self.inner.purge_expired(limit).await
    }

    async fn subscribe(&self, key: &RecordKey) -> StoreResult<Subscription> {
        self.inner.subscribe(key).await
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
        self.inner.peek(key)
    }

    fn at_hand(&self, key: &RecordKey) -> Option<Finished> {
        self.peek(key)
    }
}
