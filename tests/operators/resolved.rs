//! An operator ends what a record leaves open: by the API, and by the command.

use std::{
    future::{pending, poll_fn},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering::SeqCst},
    },
    task::Poll,
    time::Duration,
};

use idempotent_runtime::{
    Error, Execution, Idempotency, KeepErrors, OnAbandoned, Operation, Outcome, Record, RecordKey,
    operator::{Resolving, Verdict},
};
use idempotent_tests::{backend::Backend, on_every_store};
use serde::{Deserialize, Serialize};
use serde_json::{json, value::RawValue};
use tokio::{sync::Notify, task::JoinSet};

use crate::fixture::{one_of_each, run};

const TTL: Duration = Duration::from_hours(1);

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Failed {
    Declined,
    #[serde(skip)]
    Refused(String),
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self::Refused(error.code().to_owned())
    }
}

/// A charge that is never run again by itself.
fn charging(abandoned: OnAbandoned) -> Operation<KeepErrors> {
    Operation::new("charge").ttl(TTL).lease(Duration::from_secs(30)).abandoned(abandoned).keep_errors()
}

async fn charge(idempotency: &Idempotency, abandoned: OnAbandoned, says: u32) -> Result<u32, Failed> {
    idempotency.call(charging(abandoned)).key("order-17").run(async { Ok(says) }).await
}

async fn seen(idempotency: &Idempotency) -> Record {
    idempotency.inspect("charge", "order-17").await.unwrap().unwrap()
}

/// The caller leaves in the midst of a run.
async fn abandon(idempotency: &Idempotency, abandoned: OnAbandoned) {
    {
        let begun = Notify::new();
        let call = idempotency.call(charging(abandoned)).key("order-17").run(async {
            begun.notify_one();
            pending::<Result<u32, Failed>>().await
        });
        let (mut call, mut has_begun) = (pin!(call), pin!(begun.notified()));
        poll_fn(|cx| {
            assert!(call.as_mut().poll(cx).is_pending());
            if has_begun.as_mut().poll(cx).is_ready() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
    assert_eq!(idempotency.drain(Duration::from_mins(1)).await, 0);
}

fn refused(code: &str) -> Result<u32, Failed> {
    Err(Failed::Refused(code.to_owned()))
}

async fn all_callers_get_what_an_operator_says(backend: Backend) {
    let idempotency = Idempotency::new(backend.store().await);
    let operator = idempotency.operator();
    for policy in [OnAbandoned::Refuse, OnAbandoned::Rerun] {
        for (verdict, expected) in [
            (Verdict::happened(&4_200, "alice", "it is on the statement").unwrap(), Ok(4_200)),
            (Verdict::failed(&Failed::Declined, "alice", "the bank says so").unwrap(), Err(Failed::Declined)),
            (Verdict::never_happened("alice", "it is not on the statement"), Ok(1)),
            (Verdict::forgotten("alice", "a test"), Ok(1)),
        ] {
            abandon(&idempotency, policy).await;
            if policy == OnAbandoned::Refuse {
                assert_eq!(charge(&idempotency, policy, 1).await, refused("abandoned"));
            }
            let seen = seen(&idempotency).await;
            assert_eq!(operator.resolve(&seen, verdict.clone()).await.unwrap(), Resolving::Applied);
            for _ in 0..2 {
                assert_eq!(charge(&idempotency, policy, 1).await, expected, "{verdict:?}");
            }
            assert!(idempotency.forget("charge", "order-17").await.unwrap());
        }
    }
}

/// What callers could not read is refused when the operator says it.
#[test]
fn what_would_not_come_back_is_no_verdict() {
    let raw = || Some(RawValue::from_string("null".to_owned()).unwrap());
    let verdicts = [
        Verdict::happened(&f64::NAN, "alice", "the bank says so"),
        Verdict::failed(&[f32::INFINITY], "alice", "the bank says so"),
        Verdict::happened(&Some(()), "alice", "the bank says so"),
        Verdict::happened(&raw(), "alice", "the bank says so"),
        Verdict::failed(&raw(), "alice", "the bank says so"),
    ];
    for verdict in verdicts {
        assert!(verdict.is_err(), "{verdict:?}");
    }
    assert!(Verdict::happened("as it is", "alice", "the bank says so").is_ok());
}

async fn what_has_a_result_stays(backend: Backend) {
    let idempotency = Idempotency::new(backend.store().await);
    let operator = idempotency.operator();
    assert_eq!(charge(&idempotency, OnAbandoned::Refuse, 7).await, Ok(7));
    let done = seen(&idempotency).await;
    for verdict in [Verdict::happened(&8, "bob", "no").unwrap(), Verdict::never_happened("bob", "no")] {
        assert_eq!(operator.resolve(&done, verdict).await.unwrap(), Resolving::Finished);
    }
    assert_eq!(charge(&idempotency, OnAbandoned::Refuse, 9).await, Ok(7));
    assert_eq!(operator.resolve(&done, Verdict::forgotten("bob", "yes")).await.unwrap(), Resolving::Applied);
    assert_eq!(charge(&idempotency, OnAbandoned::Refuse, 9).await, Ok(9));
    let stale = operator.resolve(&done, Verdict::forgotten("bob", "yes")).await.unwrap();
    assert_eq!(stale, Resolving::Changed, "it is another life's record");
}

/// The owner works on, and its caller gets what the operator has said, and not what it has done itself.
async fn an_owner_that_is_resolved_away_is_told(backend: Backend) {
    let idempotency = Idempotency::new(backend.store().await);
    let (begun, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let owner = tokio::spawn({
        let (idempotency, begun, go_on) = (idempotency.clone(), Arc::clone(&begun), Arc::clone(&go_on));
        async move {
            let body = async {
                begun.notify_one();
                go_on.notified().await;
                Ok::<_, Failed>(1)
            };
            idempotency.call(charging(OnAbandoned::Refuse)).key("order-17").run(body).await
        }
    });
    begun.notified().await;
    let seen = seen(&idempotency).await;
    let verdict = || Verdict::happened(&2, "alice", "it hangs").unwrap();
    let operator = idempotency.operator();
    match operator.resolve(&seen, verdict()).await.unwrap() {
        Resolving::Running { lease_left, .. } => assert!(lease_left <= Duration::from_secs(30)),
        other => panic!("{other:?}"),
    }
    assert_eq!(operator.resolve(&seen, verdict().even_if_alive()).await.unwrap(), Resolving::Applied);
    go_on.notify_one();
    assert_eq!(owner.await.unwrap(), Ok(2));
    assert_eq!(charge(&idempotency, OnAbandoned::Refuse, 3).await, Ok(2));
}

/// The first one; the others are told that they looked at something else.
async fn of_many_operators_one_wins(backend: Backend) {
    let idempotency = Idempotency::new(backend.store().await);
    abandon(&idempotency, OnAbandoned::Refuse).await;
    let seen = seen(&idempotency).await;
    let mut operators = JoinSet::new();
    for says in 0..8_u32 {
        let (operator, seen) = (idempotency.operator(), seen.clone());
        operators.spawn(async move {
            let verdict = Verdict::happened(&says, &format!("operator {says}"), "a race").unwrap();
            (operator.resolve(&seen, verdict).await.unwrap(), says)
        });
    }
    let answers = operators.join_all().await;
    let [winner] = answers.iter().filter(|(answer, _)| *answer == Resolving::Applied).collect::<Vec<_>>()[..] else {
        panic!("{answers:?}")
    };
    assert!(answers.iter().all(|(answer, _)| matches!(answer, Resolving::Applied | Resolving::Changed)));
    assert_eq!(charge(&idempotency, OnAbandoned::Refuse, 99).await, Ok(winner.1));
}

/// Steps that earlier runs recorded are not repeated, and the run counts from one.
async fn what_did_not_happen_goes_on_after_its_steps(backend: Backend) {
    let idempotency = Idempotency::new(backend.store().await);
    let (mails, recorded) = (Arc::new(AtomicU32::new(0)), Arc::new(Notify::new()));
    let body = |hangs: bool| {
        let (mails, recorded) = (Arc::clone(&mails), Arc::clone(&recorded));
        async move {
            let execution = Execution::current().unwrap();
            let mailed = idempotent_runtime::step("mail", async {
                mails.fetch_add(1, SeqCst);
                Ok::<_, Failed>(5)
            });
            let number = mailed.await?;
            if hangs {
                recorded.notify_one();
                pending::<()>().await;
            }
            Ok::<_, Failed>(10 * execution.attempt() + number)
        }
    };
    {
        let mut call = pin!(idempotency.call(charging(OnAbandoned::Refuse)).key("order-17").run(body(true)));
        tokio::select! { _ = call.as_mut() => panic!("it hangs"), () = recorded.notified() => {} }
    }
    assert_eq!(idempotency.drain(Duration::from_mins(1)).await, 0);
    let verdict = Verdict::never_happened("alice", "the card was not charged");
    let seen = seen(&idempotency).await;
    assert_eq!(idempotency.operator().resolve(&seen, verdict).await.unwrap(), Resolving::Applied);
    let again = idempotency.call(charging(OnAbandoned::Refuse)).key("order-17").run(body(false)).await;
    assert_eq!(again, Ok(15), "the first attempt, after the step");
    assert_eq!(mails.load(SeqCst), 1);
}

/// Its attempts are used up. An operator mends the cause, and has it run again.
async fn an_exhausted_key_goes_on_after_its_steps(backend: Backend) {
    let idempotency = Idempotency::new(backend.store().await);
    let (mails, mended) = (AtomicU32::new(0), AtomicBool::new(false));
    let charge = async || {
        let body = async {
            let mailed = idempotent_runtime::step("mail", async {
                mails.fetch_add(1, SeqCst);
                Ok::<_, Failed>(5)
            });
            let number: u32 = mailed.await?;
            if mended.load(SeqCst) { Ok(number) } else { Err(Failed::Declined) }
        };
        let operation = Operation::new("charge").ttl(TTL).max_attempts(2);
        idempotency.call(operation).key("order-17").run(body).await
    };
    for _ in 0..2 {
        assert_eq!(charge().await, Err(Failed::Declined));
    }
    for _ in 0..2 {
        assert_eq!(charge().await, Err(Failed::Refused("exhausted".to_owned())));
    }
    let verdict = Verdict::never_happened("alice", "the cause is mended");
    let seen = seen(&idempotency).await;
    assert_eq!(idempotency.operator().resolve(&seen, verdict).await.unwrap(), Resolving::Applied);
    mended.store(true, SeqCst);
    assert_eq!(charge().await, Ok(5));
    assert_eq!(mails.load(SeqCst), 1, "by the first run of all");
}

on_every_store!(
    all_callers_get_what_an_operator_says,
    what_has_a_result_stays,
    an_owner_that_is_resolved_away_is_told,
    of_many_operators_one_wins,
    what_did_not_happen_goes_on_after_its_steps,
    an_exhausted_key_goes_on_after_its_steps,
);

fn resolve<'a>(key: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["resolve", "each", key, "--reason", "a test", "--by", "alice"][..], more].concat()
}

async fn the_command_resolves(backend: Backend) {
    let idempotency = Idempotency::new(backend.store().await);
    one_of_each(&idempotency, &backend).await;
    let url = backend.url();
    let said = |key: &str, more: &[&str], code: i32| run(&url, &resolve(key, more)).with(code);
    let told =
        |key: &str, more: &[&str], code: i32| said(key, &[more, &["--json", "--yes"]].concat(), code).json().remove(0);

    said("abandoned", &["--result", "42"], 2);
    said("abandoned", &["--result", "no JSON", "--yes"], 2);
    said("abandoned", &["--result", "42", "--rerun", "--yes"], 2);
    said("abandoned", &["--yes"], 2);
    run(&url, &["resolve", "each", "abandoned", "--rerun", "--yes"]).with(2);
    run(&url, &["resolve", "each", "abandoned", "--rerun", "--yes", "--reason", ""]).with(2);

    let why = |answer: serde_json::Value| answer["why"].as_str().unwrap().to_owned();
    assert_eq!(why(told("none", &["--rerun"], 1)), "no-record");
    assert_eq!(why(told("abandoned", &["--rerun", "--if-attempt", "2"], 1)), "changed");
    assert_eq!(why(told("running", &["--rerun"], 1)), "running");
    assert_eq!(why(told("ok", &["--rerun"], 1)), "finished");
    assert_eq!(why(told("error", &["--result", "1"], 1)), "finished");
    assert_eq!(why(told("dead", &["--rerun"], 1)), "dead-letter");

    let resolved = told("abandoned", &["--result", " {\"a\": 1.0} ", "--if-attempt", "1", "--keep", "2h"], 0);
    assert_eq!(resolved["resolved"], true);
    let shown = run(&url, &["show", "each", "abandoned", "--json", "--reveal"]).with(0).json().remove(0);
    assert_eq!((&shown["state"], &shown["result"]), (&json!("ok"), &json!({ "a": 1.0 })));
    assert_eq!((&shown["attempt"], &shown["arguments"]["amount"]), (&json!(1), &json!(1)));
    let context = shown["context"].as_str().unwrap();
    assert!(context.starts_with("resolved as ok by alice at 2"), "{context}");
    assert!(context.ends_with("Z: a test"), "{context}");
    let kept = shown["expires_in_ms"].as_u64().unwrap();
    assert!((7_000_000..=7_200_000).contains(&kept), "{kept}");
    let key: RecordKey = "each|abandoned".parse().unwrap();
    let record = idempotency.inspect_record(&key).await.unwrap().unwrap();
    assert_eq!(record.state.as_str(), "ok");
    let kept = Outcome::Ok(bytes::Bytes::from_static(b"{\"a\": 1.0}"));
    assert_eq!(record.state, idempotent_runtime::State::Done(kept), "byte for byte");

    for key in ["lapsed", "failed", "suspended", "exhausted", "not-kept"] {
        let text = said(key, &["--rerun", "--yes"], 0).out;
        assert!(text.ends_with("resolved: the next call runs as attempt 1: it was left to run again\n"), "{text}");
        let shown = run(&url, &["show", "each", key]).with(0).out;
        assert!(shown.contains("left to run again by alice at 2"), "{shown}");
    }
    told("running", &["--error", "\"declined\"", "--force"], 0);
    assert_eq!(run(&url, &["show", "each", "running", "--json"]).with(0).json()[0]["state"], "error");
    told("ok", &["--forget"], 0);
    run(&url, &["show", "each", "ok"]).with(1);
    assert_eq!(why(told("ok", &["--forget"], 1)), "no-record");
}

on_every_store!(without memory: the_command_resolves);
