//! With `abandoned = refuse`, a run that vanished is the last one, however long ago it was, until an operator says otherwise.

use std::{collections::BTreeMap, future::pending, time::Duration};

use idempotent_runtime::{
    Error, OnAbandoned, Operation, State, idempotent,
    testing::{Fault, Method},
};
use tokio::sync::Notify;

use crate::{
    support::{Backend, Caller, record_key},
    test_bodies::vanish,
};
use idempotent_tests::on_every_store;

on_every_store! {
    refuse_has_no_end,
    every_handle_is_bound,
    a_result_still_ends,
    a_run_begun_under_rerun_holds_nothing,
}

const TTL: Duration = Duration::from_secs(3600);
const LEASE: Duration = Duration::from_secs(20);
/// A Friday's crash, and then some.
const LATER: Duration = Duration::from_secs(30 * 24 * 3600);

fn charge(abandoned: OnAbandoned) -> Operation {
    Operation::new("held.charge").abandoned(abandoned).ttl(TTL).lease(LEASE).wait(Duration::ZERO)
}

/// As the attribute has them, for a function whose argument is its key.
fn arguments(key: &str) -> BTreeMap<&str, &str> {
    BTreeMap::from([("key", key)])
}

#[derive(Clone, Copy, Debug)]
enum End {
    Panic,
    Dropped,
    /// As of a process that is killed: nothing is told to the store.
    Vanished,
}

/// Leaves a run without an outcome.
async fn leave(backend: &Backend, caller: &Caller, key: &str, end: End) {
    let handle = caller.idempotency.clone();
    let body_key = key.to_owned();
    match end {
        End::Panic => {
            let crash = async move { if true { panic!("on purpose") } else { Ok::<u8, Error>(1) } };
            let run = async move {
                handle
                    .call(charge(OnAbandoned::Refuse))
                    .key(&body_key)
                    .arguments(&arguments(&body_key))
                    .run(crash)
                    .await
            };
            tokio::spawn(run).await.expect_err("a panic");
        }
        End::Dropped | End::Vanished => {
            if let End::Vanished = end {
                caller.store.always(Method::Suspend, Fault::LOST_REQUEST);
            }
            let started = Notify::new();
            let body = async {
                started.notify_one();
                pending::<Result<u8, Error>>().await
            };
            let run = handle.call(charge(OnAbandoned::Refuse)).key(key).arguments(&arguments(key)).run(body);
            tokio::select! {
                answer = run => panic!("{answer:?}"),
                () = started.notified() => {}
            }
        }
    }
    // In the background.
    let observer = backend.store().await;
    if let End::Vanished = end {
        backend.advance(LEASE).await;
    }
    while matches!(
        observer.inspect(&record_key("held.charge", key)).await.expect("inspect").expect("a record").state,
        State::Running { .. }
    ) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn refuse_has_no_end(backend: Backend) {
    for end in [End::Panic, End::Dropped, End::Vanished] {
        let caller = backend.caller().await;
        let key = format!("{end:?}");
        leave(&backend, &caller, &key, end).await;
        let later = backend.caller().await.idempotency;
        for wait in [Duration::ZERO, TTL + LEASE, LATER] {
            backend.advance(wait).await;
            let answer = later
                .call(charge(OnAbandoned::Refuse))
                .key(&key)
                .arguments(&arguments(&key))
                .run(async { Ok::<u8, Error>(2) })
                .await;
            assert!(matches!(answer, Err(Error::Abandoned { attempt: 1, .. })), "{end:?}, after {wait:?}: {answer:?}");
            later.purge_expired(1000).await.expect("purge");
        }
        let listed = later.list(Some("held.charge"), None, 100).await.expect("a page");
        assert!(
            listed.records.iter().any(|record| record.key == record_key("held.charge", &key)),
            "{end:?}: it is shown"
        );
        // The operator has looked: it did not happen.
        assert!(later.forget("held.charge", &key).await.expect("forget"));
        let answer = later
            .call(charge(OnAbandoned::Refuse))
            .key(&key)
            .arguments(&arguments(&key))
            .run(async { Ok::<u8, Error>(3) })
            .await;
        assert_eq!(answer.expect("a result"), 3);
    }
}

#[idempotent(name = "held.charge", key = key, ttl = "1h", lease = "20s", wait = "0s", store = caller.idempotency, skip(caller))]
async fn would_rerun(caller: &Caller, key: &str) -> Result<u8, Error> {
    Ok(4)
}

async fn every_handle_is_bound(backend: Backend) {
    let caller = backend.caller().await;
    for end in [End::Panic, End::Vanished] {
        let key = format!("bound-{end:?}");
        leave(&backend, &caller, &key, end).await;
        let other = backend.caller().await;
        let rerun = other.idempotency.call(charge(OnAbandoned::Rerun)).key(&key).arguments(&arguments(&key));
        let answer = rerun.run(async { Ok::<u8, Error>(2) }).await;
        assert!(matches!(answer, Err(Error::Abandoned { attempt: 1, .. })), "{end:?}: {answer:?}");
        let rerun = other.idempotency.call(charge(OnAbandoned::Rerun)).key(&key).arguments(&arguments(&key)).detached();
        let answer = rerun.run(async { Ok::<u8, Error>(2) }).await;
        assert!(matches!(answer, Err(Error::Abandoned { attempt: 1, .. })), "{end:?}: {answer:?}");
        let answer = would_rerun(&other, &key).await;
        assert!(matches!(answer, Err(Error::Abandoned { attempt: 1, .. })), "{end:?}: {answer:?}");
    }
}

async fn a_result_still_ends(backend: Backend) {
    let caller = backend.caller().await.without_peeking();
    let run = async |value: u8| {
        caller.idempotency.call(charge(OnAbandoned::Refuse)).key("k").run(async { Ok::<u8, Error>(value) }).await
    };
    assert_eq!(run(1).await.expect("a result"), 1);
    assert_eq!(run(2).await.expect("a result"), 1);
    backend.advance(TTL).await;
    assert_eq!(run(3).await.expect("a result"), 3, "the ttl is counted from the completion");
}

/// As before a deployment that brings `refuse`.
async fn a_run_begun_under_rerun_holds_nothing(backend: Backend) {
    vanish(&backend, async |caller, started| {
        let body = async {
            started.pass().await;
            Ok::<u8, Error>(0)
        };
        caller.idempotency.call(charge(OnAbandoned::Rerun)).key("k").run(body).await
    })
    .await;
    let caller = backend.caller().await;
    let refuses = || caller.idempotency.call(charge(OnAbandoned::Refuse)).key("k");
    let refused = refuses().run(async { Ok::<u8, Error>(1) }).await;
    assert!(matches!(refused, Err(Error::Abandoned { attempt: 1, .. })), "{refused:?}");
    backend.advance(TTL).await;
    assert_eq!(refuses().run(async { Ok::<u8, Error>(1) }).await.expect("a result"), 1, "its record has had its end");
}
