//! Recorded arguments: what the caller passed, in every state of the record; and which differ, by name.

use std::{collections::BTreeMap, time::Duration};

use idempotent_runtime::{
    Disposition, Error, Idempotency, OnAbandoned, Operation, Outcome, State, StoreErrorKind, idempotent,
    testing::{Fault, Gate, Method},
    with_disposition,
};
use serde::Serialize;

use crate::support::{Backend, Caller, Effects, Failure, LEASE, TTL};
use idempotent_tests::on_every_store;

on_every_store! {
    arguments_are_recorded_in_every_state,
    arguments_are_recorded_only_where_asked_for,
    the_run_that_takes_over_records_its_own,
    a_mismatch_names_what_differs,
    a_mismatch_names_nothing_it_does_not_know,
    a_call_without_the_attribute_records_its_arguments_as_they_are,
    what_cannot_be_recorded_claims_nothing,
    arguments_are_limited_to_the_byte,
}

const ORDER: &str = "order-17";
const NAME: &str = "arguments.charge";
const RECORDED: &str = r#"{"amount_cents":4200,"currency":"EUR","items":["tea","é\"\n"],"order":"order-17"}"#;

struct Database;

async fn recording(backend: &Backend) -> Caller {
    backend.caller_with(Idempotency::builder().record_arguments(true)).await
}

#[idempotent(name = "arguments.charge", key = order, skip(caller, gate, _database), store = caller.idempotency, errors = keep)]
async fn charge(
    caller: &Caller,
    gate: &Gate,
    _database: Database,
    order: &str,
    amount_cents: i64,
    currency: &str,
    items: &[&str],
) -> Result<i64, Failure> {
    gate.pass().await;
    if amount_cents < 0 { Err(Failure::Declined { code: amount_cents }) } else { Ok(amount_cents) }
}

async fn ask(caller: &Caller, gate: &Gate, amount_cents: i64) -> Result<i64, Failure> {
    charge(caller, gate, Database, ORDER, amount_cents, "EUR", &["tea", "é\"\n"]).await
}

fn open() -> Gate {
    let gate = Gate::new();
    gate.open();
    gate
}

/// The arguments and the state of the record, as every way to look at it shows them.
async fn shown(backend: &Backend) -> Option<(Option<String>, State)> {
    let operator = backend.caller().await.idempotency;
    let record = operator.inspect(NAME, ORDER).await.expect("an answer");
    let listed = operator.list(Some(NAME), None, 10).await.expect("a page").records;
    let text = |bytes: bytes::Bytes| String::from_utf8(bytes.to_vec()).expect("text");
    assert_eq!(
        listed.first().map(|record| record.arguments.clone()),
        record.as_ref().map(|record| record.arguments.clone())
    );
    record.map(|record| (record.arguments.map(text), record.state))
}

async fn arguments(backend: &Backend) -> Option<String> {
    shown(backend).await.expect("a record").0
}

async fn arguments_are_recorded_in_every_state(backend: Backend) {
    let caller = recording(&backend).await;
    // Abandoned, and run again.
    let (gate, said) = (Gate::new(), Gate::new());
    caller.store.next(Method::Suspend, [Fault::HoldAfter(said.clone())]);
    let run = tokio::spawn({
        let (caller, gate) = (caller.clone(), gate.clone());
        async move { ask(&caller, &gate, 4_200).await }
    });
    gate.reached(1).await;
    let (recorded, state) = shown(&backend).await.expect("a record");
    assert_eq!(recorded.as_deref(), Some(RECORDED));
    assert!(matches!(state, State::Running { .. }));
    run.abort();
    said.reached(1).await;
    assert_eq!(shown(&backend).await, Some((Some(RECORDED.to_owned()), State::Abandoned)));
    said.open();

    let (answer, disposition) = with_disposition(ask(&caller, &open(), 4_200)).await;
    assert_eq!((answer.expect("a result"), disposition), (4_200, Disposition::TookOver));
    let done = State::Done(Outcome::Ok("4200".into()));
    assert_eq!(shown(&backend).await, Some((Some(RECORDED.to_owned()), done)));
    for other in [caller.clone(), recording(&backend).await, backend.caller().await] {
        let (answer, disposition) = with_disposition(ask(&other, &open(), 4_200)).await;
        assert_eq!((answer.expect("a result"), disposition), (4_200, Disposition::Replayed));
    }
    assert_eq!(arguments(&backend).await.as_deref(), Some(RECORDED));

    // A kept error; and nothing where there is no record.
    assert!(caller.idempotency.forget(NAME, ORDER).await.expect("an answer"));
    assert_eq!(shown(&backend).await, None);
    ask(&caller, &open(), -1).await.expect_err("declined");
    assert_eq!(arguments(&backend).await, Some(RECORDED.replace("4200", "-1")));
}

async fn arguments_are_recorded_only_where_asked_for(backend: Backend) {
    let caller = backend.caller().await;
    ask(&caller, &open(), 4_200).await.expect("a result");
    assert_eq!(arguments(&backend).await, None);
    ask(&recording(&backend).await, &open(), 4_200).await.expect("the same result");
    assert_eq!(arguments(&backend).await, None, "a hit changes nothing");
}

/// After a lapse, with and without: what is in the record is the request of the run that has the key.
async fn the_run_that_takes_over_records_its_own(backend: Backend) {
    let (with, without) = (recording(&backend).await, backend.caller().await);
    for (first, second, expected) in [(&with, &without, None), (&without, &with, Some("{\"a\":1}"))] {
        let operation = || Operation::new(NAME).lease(LEASE).ttl(TTL);
        let request = BTreeMap::from([("a", 1)]);
        let gate = Gate::new();
        let late = tokio::spawn({
            let (handle, request, gate) = (first.idempotency.clone(), request.clone(), gate.clone());
            async move {
                let body = async {
                    gate.pass().await;
                    Ok::<_, Error>(1)
                };
                handle.call(operation()).key(ORDER).arguments(&request).run(body).await
            }
        });
        gate.reached(1).await;
        backend.advance(LEASE).await;
        let body = async { Ok::<_, Error>(2) };
        assert_eq!(
            second.idempotency.call(operation()).key(ORDER).arguments(&request).run(body).await.expect("a result"),
            2
        );
        assert_eq!(arguments(&backend).await.as_deref(), expected);
        gate.open();
        assert_eq!(late.await.expect("no panic").expect("the other's result"), 2);
        assert_eq!(arguments(&backend).await.as_deref(), expected, "the late run changes nothing");
        assert!(first.idempotency.forget(NAME, ORDER).await.expect("an answer"));
    }
}

fn differing<T: std::fmt::Debug>(answer: Result<T, Failure>) -> Vec<String> {
    match answer {
        Err(Failure::Idempotency(error @ Error::Mismatch { .. })) => {
            let Error::Mismatch { arguments, .. } = &error else { unreachable!() };
            assert_eq!(error.to_string().contains("these differ"), !arguments.is_empty(), "{error}");
            arguments.to_vec()
        }
        other => panic!("not a mismatch: {other:?}"),
    }
}

async fn a_mismatch_names_what_differs(backend: Backend) {
    let owner = recording(&backend).await;
    let gate = Gate::new();
    let run = tokio::spawn({
        let (owner, gate) = (owner.clone(), gate.clone());
        async move { ask(&owner, &gate, 4_200).await }
    });
    gate.reached(1).await;
    // While it runs, and when it is done.
    for round in 0..2 {
        let callers = [owner.clone(), recording(&backend).await, recording(&backend).await.without_peeking()];
        for caller in callers {
            let gate = open();
            assert_eq!(differing(ask(&caller, &gate, 4_201).await), ["amount_cents"]);
            let other = charge(&caller, &gate, Database, ORDER, 4_200, "USD", &["tea"]).await;
            assert_eq!(differing(other), ["currency", "items"]);
        }
        if round == 0 {
            gate.open();
        }
    }
    assert_eq!(run.await.expect("no panic").expect("a result"), 4_200);
    assert_eq!(arguments(&backend).await.as_deref(), Some(RECORDED));
}

/// One side has recorded no arguments, or the store does not show them.
async fn a_mismatch_names_nothing_it_does_not_know(backend: Backend) {
    let (with, without) = (recording(&backend).await, backend.caller().await);
    ask(&with, &open(), 4_200).await.expect("a result");
    assert!(differing(ask(&without, &open(), 1).await).is_empty());
    assert_eq!(without.store.calls(Method::Inspect), 0, "it asks for nothing");
    for kind in [StoreErrorKind::Unavailable, StoreErrorKind::Corrupt] {
        with.store.next(Method::Inspect, [Fault::FailBefore(kind)]);
        assert!(differing(ask(&with, &open(), 1).await).is_empty());
    }
    // Between the refusal and the look at the record, it goes.
    let looks = Gate::new();
    with.store.next(Method::Inspect, [Fault::HoldBefore(looks.clone())]);
    let late = tokio::spawn({
        let with = with.clone();
        async move { ask(&with, &open(), 1).await }
    });
    looks.reached(1).await;
    assert!(without.idempotency.forget(NAME, ORDER).await.expect("an answer"));
    looks.open();
    assert!(differing(late.await.expect("no panic")).is_empty());

    ask(&without, &open(), 4_200).await.expect("a result");
    assert!(differing(ask(&with, &open(), 1).await).is_empty());
}

#[derive(Serialize)]
struct Request {
    order: &'static str,
    amount_cents: u64,
}

async fn a_call_without_the_attribute_records_its_arguments_as_they_are(backend: Backend) {
    let caller = recording(&backend).await;
    let operation = || Operation::new(NAME).abandoned(OnAbandoned::Refuse);
    let call = async |amount_cents| {
        let request = Request { order: ORDER, amount_cents };
        caller.idempotency.call(operation()).key(ORDER).arguments(&request).run(async { Ok::<_, Failure>(()) }).await
    };
    call(1).await.expect("a result");
    assert_eq!(arguments(&backend).await.as_deref(), Some(r#"{"order":"order-17","amount_cents":1}"#));
    assert_eq!(differing(call(2).await), ["amount_cents"]);

    assert!(caller.idempotency.forget(NAME, ORDER).await.expect("an answer"));
    let call = |request: Option<u8>| {
        let handle = caller.idempotency.clone();
        async move {
            handle.call(operation()).key(ORDER).arguments(&request).detached().run(async { Ok::<_, Failure>(()) }).await
        }
    };
    call(None).await.expect("a result");
    assert_eq!(arguments(&backend).await.as_deref(), Some("null"));
    assert!(differing(call(Some(1)).await).is_empty(), "it has no names");
}

#[idempotent(name = "arguments.map", key = order, skip(caller, effects), store = caller.idempotency)]
async fn map(caller: &Caller, effects: &Effects, order: &str, map: &BTreeMap<(u8, u8), u8>) -> Result<u64, Error> {
    Ok(effects.happen())
}

async fn what_cannot_be_recorded_claims_nothing(backend: Backend) {
    let (caller, effects) = (recording(&backend).await, Effects::new());
    let argument = BTreeMap::from([((1, 2), 3)]);
    match map(&caller, &effects, ORDER, &argument).await {
        Err(Error::Arguments(error)) => {
            assert_eq!(error.argument(), "map");
            assert!(error.to_string().contains("JSON"), "{error}");
        }
        other => panic!("recorded: {other:?}"),
    }
    let body = async { Ok::<_, Error>(effects.happen()) };
    let answer = caller.idempotency.call("arguments.map").key(ORDER).arguments(&argument).run(body).await;
    assert!(matches!(answer, Err(Error::Arguments(_))), "{answer:?}");
    assert_eq!((effects.count(), caller.store.calls(Method::Claim)), (0, 0));
    // They can be hashed, which is all that a call needs.
    assert_eq!(map(&backend.caller().await, &effects, ORDER, &argument).await.expect("a result"), 1);
}

async fn arguments_are_limited_to_the_byte(backend: Backend) {
    let builder = || Idempotency::builder().record_arguments(true);
    let by_default = backend.caller_with(builder()).await;
    let short = backend.caller_with(builder().max_arguments_len(20)).await;
    // With the quotation marks of a text.
    for (caller, max) in [(&by_default, 64 * 1024), (&short, 20)] {
        let call = async |len: usize| {
            let operation = Operation::new(NAME).wait(Duration::ZERO);
            let text = "x".repeat(len - 2);
            let answer =
                caller.idempotency.call(operation).key(len).arguments(&text).run(async { Ok::<_, Error>(()) }).await;
            let record = caller.idempotency.inspect(NAME, &len).await.expect("an answer");
            (answer, record.map(|record| record.arguments.map_or(0, |recorded| recorded.len())))
        };
        let (answer, recorded) = call(max).await;
        answer.expect("a result");
        assert_eq!(recorded, Some(max));
        match call(max + 1).await {
            (Err(Error::Arguments(error)), None) => {
                assert!(error.to_string().contains("max_arguments_len"), "{error}");
            }
            other => panic!("recorded: {other:?}"),
        }
    }
}
