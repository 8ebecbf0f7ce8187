//! Records that change between two looks of one call.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use idempotent_runtime::{
    Error, Execution, Fingerprint, Operation, Outcome,
    store::{ClaimOutcome, ClaimRequest, Nonce, Why},
    testing::{Fault, Gate, Method},
};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tokio::task::{JoinHandle, JoinSet};

use crate::support::{Backend, Caller, LEASE, TTL, record_key, running, seed};
use idempotent_tests::on_every_store;

on_every_store! {
    s06_a_record_vanishes_between_two_looks,
    s06_a_record_is_done_between_two_looks,
    s06_a_record_is_abandoned_between_two_looks,
    s06_a_lease_lapses_between_two_looks,
    s06_a_record_becomes_another_requests_between_two_looks,
    s06_a_record_that_never_holds_still_ends_in_a_right_answer,
}

const OPERATION: &str = "changes.look";
const ORDER: &str = "order-6";

/// A call that has seen a running record, and is held before it looks again.
struct Look {
    /// Whose run it saw.
    run: JoinHandle<Result<u32, Error>>,
    body: Gate,
    caller: Caller,
    call: JoinHandle<Result<u32, Error>>,
    gate: Gate,
}

impl Look {
    async fn at(backend: &Backend) -> Self {
        let (owner, caller) = (backend.caller().await, backend.caller().await);
        let (body, gate) = (Gate::new(), Gate::new());
        let run = running(&owner, Operation::new(OPERATION), ORDER, &body).await;
        caller.store.next(Method::Subscribe, [Fault::HoldBefore(gate.clone())]);
        let handle = caller.idempotency.clone();
        let call = tokio::spawn(async move {
            let body = async { Ok(Execution::current().expect("an execution").attempt() + 100) };
            handle.call(OPERATION).key(ORDER).arguments(ORDER).run(body).await
        });
        gate.reached(1).await;
        Self { run, body, caller, call, gate }
    }

    /// The answer of the call once it may look again. It did not have to look often.
    async fn again(self) -> Result<u32, Error> {
        self.gate.open();
        let answer = self.call.await.expect("no panic");
        let claims = self.caller.store.calls(Method::Claim);
        assert!(claims <= 3, "{claims} claims");
        self.run.abort();
        answer
    }
}

async fn s06_a_record_vanishes_between_two_looks(backend: Backend) {
    let look = Look::at(&backend).await;
    assert!(backend.caller().await.idempotency.forget(OPERATION, ORDER).await.expect("an answer"));
    assert_eq!(look.again().await.expect("a result"), 101);
}

async fn s06_a_record_is_done_between_two_looks(backend: Backend) {
    let mut look = Look::at(&backend).await;
    look.body.open();
    assert_eq!((&mut look.run).await.expect("no panic").expect("a result"), 1);
    assert_eq!(look.again().await.expect("a result"), 1);
}

async fn s06_a_record_is_abandoned_between_two_looks(backend: Backend) {
    let mut look = Look::at(&backend).await;
    look.run.abort();
    assert!((&mut look.run).await.expect_err("dropped").is_cancelled());
    // The owner says so in the background, before or after the second look.
    assert_eq!(look.again().await.expect("a result"), 102);
}

async fn s06_a_lease_lapses_between_two_looks(backend: Backend) {
    let look = Look::at(&backend).await;
    backend.advance(Operation::DEFAULT_LEASE).await;
    assert_eq!(look.again().await.expect("a result"), 102);
}

async fn s06_a_record_becomes_another_requests_between_two_looks(backend: Backend) {
    let look = Look::at(&backend).await;
    let operator = backend.caller().await.idempotency;
    assert!(operator.forget(OPERATION, ORDER).await.expect("an answer"));
    let other = async { Ok::<_, Error>(0_u32) };
    operator.call(OPERATION).key(ORDER).arguments("another request").run(other).await.expect("a result");
    assert!(matches!(look.again().await, Err(Error::Mismatch { .. })));
}

/// Callers meet a record that somebody keeps changing. Each of them must end, with the result of a run that has been.
async fn s06_a_record_that_never_holds_still_ends_in_a_right_answer(backend: Backend) {
    let mut random = StdRng::seed_from_u64(seed());
    let results = Results::default();
    let mut callers = JoinSet::new();
    for number in 1..=4 {
        callers.spawn(keep_calling(backend.caller().await, results.clone(), number * 1_000_000));
    }
    let store = backend.store().await;
    let key = record_key(OPERATION, ORDER);
    for result in 0.. {
        let fingerprint = Fingerprint::of(ORDER).expect("a fingerprint");
        let request = ClaimRequest::new(fingerprint, Nonce::random(), LEASE, TTL);
        let claim = store.claim(&key, &request).await.expect("an answer");
        match (claim, random.random_range(0..4)) {
            (ClaimOutcome::Claimed { token, .. }, 0) => {
                results.add(result);
                let outcome = Outcome::Ok(result.to_string().into());
                let _ = store.complete(&key, &token, &outcome, TTL).await.expect("an answer");
            }
            (ClaimOutcome::Claimed { token, .. }, 1) => {
                let _ = store.suspend(&key, &token, Why::Abandoned, Duration::ZERO, TTL).await.expect("an answer");
            }
            (_, 0..2) => drop(store.forget(&key).await.expect("an answer")),
            // A claim that is left, ours or theirs, lapses.
            (_, 2) => backend.advance(LEASE).await,
            (_, _) => tokio::task::yield_now().await,
        }
        if let Some(ended) = callers.try_join_next() {
            ended.expect("no panic");
        }
        if callers.is_empty() {
            break;
        }
    }
}

/// The results of all runs, known before anybody can be told.
#[derive(Clone, Default)]
struct Results(Arc<Mutex<HashSet<u32>>>);

impl Results {
    fn add(&self, result: u32) {
        self.0.lock().expect("no panic").insert(result);
    }

    fn contains(&self, result: u32) -> bool {
        self.0.lock().expect("no panic").contains(&result)
    }
}

async fn keep_calling(caller: Caller, results: Results, first: u32) {
    for result in first..first + 50 {
        let body = async {
            tokio::task::yield_now().await;
            results.add(result);
            Ok(result)
        };
        match caller.idempotency.call(OPERATION).key(ORDER).arguments(ORDER).run(body).await {
            Ok(result) => assert!(results.contains(result), "nobody's result"),
            // Its own run was one too many.
            Err(Error::ClaimLost) => {}
            Err(error) => panic!("{error}"),
        }
    }
}
