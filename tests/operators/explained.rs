//! Every state, policy and request: what is explained is what the next call gets.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use idempotent_runtime::{
    Error, Execution, Fingerprint, Idempotency, OnAbandoned, Operation, Outcome, Reconciled, RecordKey, Store,
    operator::{NextCall, NextRequest},
    store::{ClaimOutcome, ClaimRequest, Nonce, NotKept, Token, Why},
};
use idempotent_tests::{backend::Backend, on_every_store};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

const LEASE: Duration = Duration::from_mins(1);
const TTL: Duration = Duration::from_hours(1);
const PAUSE: Duration = Duration::from_mins(30);
/// As the engine keeps the records of `abandoned = refuse`.
const HELD: Duration = Duration::from_hours(24 * 365 * 500);
/// The time that passes between an explanation and its call, at most.
const SOON: Duration = Duration::from_secs(10);

#[derive(Serialize)]
struct Charge {
    amount: u32,
}

#[derive(Debug, Serialize, Deserialize)]
enum ChargeError {
    Declined,
    #[serde(skip)]
    Idempotency(Error),
}

impl From<Error> for ChargeError {
    fn from(error: Error) -> Self {
        Self::Idempotency(error)
    }
}

/// The states of a key, each with the steps that lead to it.
#[derive(Clone, Copy, Debug)]
enum Life {
    New,
    Running,
    Lapsed {
        keep: Duration,
    },
    Abandoned {
        keep: Duration,
        pause: Duration,
    },
    Failed {
        pause: Duration,
    },
    Done(End),
    Expired,
    /// A second run after one that was abandoned.
    TakenOver,
}

#[derive(Clone, Copy, Debug)]
enum End {
    Ok,
    Err,
    NotKept,
    Exhausted,
    Dead,
}

const LIVES: [Life; 15] = [
    Life::New,
    Life::Running,
    Life::Lapsed { keep: TTL },
    Life::Lapsed { keep: HELD },
    Life::Abandoned { keep: TTL, pause: Duration::ZERO },
    Life::Abandoned { keep: TTL, pause: PAUSE },
    Life::Abandoned { keep: HELD, pause: Duration::ZERO },
    Life::Abandoned { keep: HELD, pause: PAUSE },
    Life::Failed { pause: Duration::ZERO },
    Life::Failed { pause: PAUSE },
    Life::Done(End::Ok),
    Life::Done(End::Err),
    Life::Done(End::NotKept),
    Life::Expired,
    Life::TakenOver,
];

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).unwrap()
}

async fn claim(store: &Arc<dyn Store>, key: &RecordKey, keep: Duration) -> Token {
    let request = ClaimRequest::new(Fingerprint::of(&Charge { amount: 1 }).unwrap(), Nonce::random(), LEASE, keep)
        .with_arguments(Bytes::from(json(&Charge { amount: 1 })));
    match store.claim(key, &request).await.unwrap() {
        ClaimOutcome::Claimed { token, .. } => token,
        other => panic!("{other:?}"),
    }
}

/// Leads a key to a state.
async fn live(backend: &Backend, store: &Arc<dyn Store>, key: &RecordKey, life: Life) {
    match life {
        Life::New => {}
        Life::Running => drop(claim(store, key, TTL).await),
        Life::Lapsed { keep } => {
            claim(store, key, keep).await;
            backend.advance(LEASE + Duration::from_secs(1)).await;
        }
        Life::Abandoned { keep, pause } => {
            let token = claim(store, key, keep).await;
            let _ = store.suspend(key, &token, Why::Abandoned, pause, keep).await.unwrap();
        }
        Life::Failed { pause } => {
            let token = claim(store, key, TTL).await;
            let _ = store.suspend(key, &token, Why::Failed, pause, TTL).await.unwrap();
        }
        Life::Done(end) => {
            let outcome = match end {
                End::Ok => Outcome::Ok(json(&"kept").into()),
                End::Err => Outcome::Err(json(&ChargeError::Declined).into()),
                End::NotKept => Outcome::NotKept(NotKept::TooLarge),
                End::Exhausted => Outcome::Exhausted,
                End::Dead => Outcome::Dead,
            };
            let token = claim(store, key, TTL).await;
            let _ = store.complete(key, &token, &outcome, TTL).await.unwrap();
        }
        Life::Expired => {
            let token = claim(store, key, TTL).await;
            let _ = store.complete(key, &token, &Outcome::Ok(json(&"old").into()), LEASE).await.unwrap();
            backend.advance(LEASE + Duration::from_secs(1)).await;
        }
        Life::TakenOver => {
            let token = claim(store, key, TTL).await;
            let _ = store.suspend(key, &token, Why::Abandoned, Duration::ZERO, TTL).await.unwrap();
            claim(store, key, TTL).await;
        }
    }
}

/// Calls, and gives what the body or the question of this call said, or what the call got.
async fn call(
    idempotency: &Idempotency,
    operation: &'static str,
    key: &str,
    amount: u32,
    abandoned: OnAbandoned,
    max_attempts: Option<u32>,
) -> Result<String, ChargeError> {
    let mut operation = Operation::new(operation).wait(Duration::ZERO).ttl(TTL).lease(LEASE).abandoned(abandoned);
    if let Some(max) = max_attempts {
        operation = operation.max_attempts(max);
    }
    let attempt = || Execution::current().unwrap().attempt();
    let body = async { Ok(format!("runs {}", attempt())) };
    let call = idempotency.call(operation.keep_errors()).key(key).arguments(&Charge { amount });
    if abandoned == OnAbandoned::Reconcile {
        let ask = async |run: Execution| Ok(Reconciled::Done(format!("asks {}", run.attempt())));
        call.reconcile(move |run| Box::pin(ask(run))).run(body).await
    } else {
        call.run(body).await
    }
}

fn near(explained: Duration, told: Duration) -> bool {
    told <= explained && told + SOON > explained
}

/// True if a call got what was explained.
fn agrees(explained: &NextCall, got: &Result<String, ChargeError>) -> bool {
    let error = match got {
        Err(ChargeError::Idempotency(error)) => Some(error),
        _ => None,
    };
    match explained {
        NextCall::Runs { attempt, .. } => matches!(got, Ok(text) if *text == format!("runs {attempt}")),
        NextCall::Asks { attempt, .. } => matches!(got, Ok(text) if *text == format!("asks {attempt}")),
        NextCall::Waits { lease_left, .. } => {
            matches!(error, Some(Error::InFlight { retry_after, .. }) if near(*lease_left, *retry_after))
        }
        NextCall::Replayed { outcome, time_left, .. } => {
            near(TTL, *time_left)
                && match outcome {
                    Outcome::Ok(bytes) => matches!(got, Ok(text) if json(text) == *bytes),
                    Outcome::Err(bytes) => matches!(got, Err(own @ ChargeError::Declined) if json(own) == *bytes),
                    Outcome::NotKept(why) => matches!(error, Some(Error::ResultNotKept(told)) if told == why),
                    _ => matches!(error, Some(Error::Exhausted)),
                }
        }
        NextCall::Mismatch { arguments, .. } => {
            matches!(error, Some(Error::Mismatch { arguments: told, .. }) if **told == **arguments)
        }
        NextCall::Suspended { retry_after, attempt, .. } => matches!(
            error,
            Some(Error::Suspended { retry_after: told, attempt: number, .. })
                if near(*retry_after, *told) && number == attempt
        ),
        NextCall::Abandoned { attempt, .. } => {
            matches!(error, Some(Error::Abandoned { attempt: told, .. }) if told == attempt)
        }
        NextCall::Exhausted => matches!(error, Some(Error::Exhausted)),
        other => panic!("not compared: {other:?}"),
    }
}

/// Explains a key, and then calls it.
async fn compare(backend: &Backend, lives: &[Life]) {
    let store = backend.store().await;
    let idempotency = Idempotency::builder().record_arguments(true).build(Arc::clone(&store));
    let operator = idempotency.operator();
    let policies = [OnAbandoned::Rerun, OnAbandoned::Refuse, OnAbandoned::Reconcile];
    let mut number = 0;
    for &life in lives {
        for policy in policies {
            for max_attempts in [None, Some(1), Some(2)] {
                for amount in [1, 2] {
                    number += 1;
                    let key = format!("k{number}");
                    live(backend, &store, &format!("charge|{key}").parse().unwrap(), life).await;
                    let request = NextRequest::of(&Charge { amount }).unwrap();
                    let explained = operator.explain("charge", &key, &request).await.unwrap();
                    let next = explained.next_call(policy, max_attempts);
                    // What does not depend on the policy is the same for all.
                    if !explained.depends_on_policy() {
                        for other in policies {
                            assert_eq!(explained.next_call(other, None), next, "{life:?}");
                        }
                    }
                    // JSON tells the same, or that it cannot tell.
                    let from_json = NextRequest::Json(json(&Charge { amount }).into());
                    let from_json = operator.explain("charge", &key, &from_json).await.unwrap();
                    assert_eq!(from_json.request, explained.request, "{life:?}");
                    let got = call(&idempotency, "charge", &key, amount, policy, max_attempts).await;
                    let what = format!("{life:?}, {policy:?}, {max_attempts:?}, amount {amount}");
                    assert!(agrees(&next, &got), "{what}: explained {next:?}, got {got:?}");
                }
            }
        }
    }
}

async fn an_explanation_is_what_the_next_call_gets(backend: Backend) {
    compare(&backend, &LIVES).await;
}

async fn given_up_keys_are_explained(backend: Backend) {
    compare(&backend, &[Life::Done(End::Exhausted), Life::Done(End::Dead)]).await;
}

on_every_store!(an_explanation_is_what_the_next_call_gets, given_up_keys_are_explained);

async fn a_run_of_the_engine_is_explained(backend: Backend) {
    let idempotency = Idempotency::new(backend.store().await);
    // A body that vanishes, with a limit of one run: the engine holds the key itself.
    let operation = Operation::new("charge").max_attempts(1).abandoned(OnAbandoned::Rerun);
    let call = idempotency.call(operation).key("gone").arguments(&1);
    let started = Notify::new();
    let body = async {
        started.notify_one();
        std::future::pending::<Result<(), Error>>().await
    };
    tokio::select! {
        ended = call.run(body) => panic!("{ended:?}"),
        () = started.notified() => {}
    }
    assert_eq!(idempotency.drain(Duration::from_secs(20)).await, 0);
    let explained = idempotency.operator().explain("charge", "gone", &NextRequest::of(&1).unwrap()).await.unwrap();
    assert!(explained.depends_on_policy());
    let next = explained.next_call(OnAbandoned::Rerun, Some(1));
    assert!(matches!(next, NextCall::Abandoned { attempt: 1, .. }), "{next:?}");
    assert_eq!(next, explained.next_call(OnAbandoned::Rerun, None), "it is held, whatever the next call allows");
    let asks = explained.next_call(OnAbandoned::Reconcile, Some(1));
    assert!(matches!(asks, NextCall::Asks { attempt: 2, .. }), "{asks:?}");
}

on_every_store!(a_run_of_the_engine_is_explained);
