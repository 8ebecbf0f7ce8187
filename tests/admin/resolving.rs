//! An operator resolves a record, and is told when somebody was quicker.

use std::{future::pending, time::Duration};

use http::StatusCode;
use idempotent_runtime::{
    Error, Idempotency, KeepErrors, OnAbandoned, Operation, Outcome,
    operator::{Resolving, Verdict},
};
use idempotent_tests::{backend::Backend, on_every_store};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use crate::{
    records::{abandoned, claim, ended},
    site::{ALICE, BOB, LONG, READER, Site, record},
};

on_every_store!(
    a_stuck_record_is_resolved,
    a_reason_is_required,
    a_stale_view_loses,
    of_two_operators_one_wins,
    a_live_owner_is_not_robbed,
    a_result_does_not_change,
);

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

fn charging() -> Operation<KeepErrors> {
    Operation::new("charge").ttl(LONG).abandoned(OnAbandoned::Refuse).keep_errors()
}

async fn charge(idempotency: &Idempotency) -> Result<u32, Failed> {
    idempotency.call(charging()).key("order-17").run(async { Ok(1) }).await
}

/// From the start to the end, by links and a form, as each of the four can be said.
async fn a_stuck_record_is_resolved(backend: Backend) {
    let idempotency = Idempotency::new(backend.store().await);
    let site = Site::new(&idempotency);
    for (verdict, json, next, gets) in [
        ("result", "4200", "replayed: the result of the run", Ok(4_200)),
        ("error", "\"Declined\"", "replayed: the error of the run", Err(Failed::Declined)),
        ("rerun", "", "runs as attempt 1: it was left to run again", Ok(1)),
        ("forget", "", "runs as attempt 1: the key has no record", Ok(1)),
    ] {
        let begun = Notify::new();
        let vanishes = idempotency.call(charging()).key("order-17").run(async {
            begun.notify_one();
            pending::<Result<u32, Failed>>().await
        });
        tokio::select! {
            _ = vanishes => unreachable!("it never ends"),
            () = begun.notified() => {}
        }
        idempotency.drain(LONG).await;
        assert_eq!(charge(&idempotency).await, Err(Failed::Refused("abandoned".to_owned())), "{verdict}");

        let start = site.get(READER, "start").await;
        let link =
            start.body.split_once("class=\"key\" href=\"").unwrap().1.split_once('"').unwrap().0.replace("&amp;", "&");
        assert_eq!(link, record("charge", "order-17"));
        site.get(READER, &link).await.with(StatusCode::OK).shows(&["refused as abandoned", "held"]);
        let form = site.form(ALICE, "charge", "order-17").await;
        let form = form.with("verdict", verdict).with("json", json).with("reason", "  the bank says so\n");
        let resolved = site.post(ALICE, &form).await.with(StatusCode::OK);
        resolved.shows(&["<h1>Resolved</h1>", next]);
        let told = idempotency.inspect("charge", "order-17").await.unwrap();
        assert_eq!(told.is_none(), verdict == "forget");
        if let Some(told) = told {
            let context = told.context.unwrap();
            assert!(context.contains(" by alice at 20") && context.ends_with("Z: the bank says so"), "{context}");
            resolved.shows(&["by alice at 20", "the bank says so"]);
        }
        assert_eq!(charge(&idempotency).await, gets, "{verdict}");
        site.get(READER, "start").await.shows(&["Nothing needs you."]);
        assert!(idempotency.forget("charge", "order-17").await.unwrap());
    }
}

/// Without a reason, or with a result that is no JSON, the form comes back as it was, and nothing is changed.
async fn a_reason_is_required(backend: Backend) {
    let idempotency = Idempotency::new(backend.store().await);
    abandoned(&idempotency, "charge|order-17").await;
    let seen = idempotency.inspect("charge", "order-17").await.unwrap().unwrap().seen();
    let site = Site::new(&idempotency);
    let form = site.form(ALICE, "charge", "order-17").await;
    let (long, fits) = ("ü".repeat(301), "ü".repeat(300));
    for (verdict, json, reason, says) in [
        ("rerun", "", "", "Say why"),
        ("rerun", "", " \n\t", "Say why"),
        ("rerun", "", &*long, "too long"),
        ("", "", "because", "Say what has happened"),
        ("done", "", "because", "Say what has happened"),
        ("result", "", "because", "not JSON"),
        ("result", "{\"a\": ", "because", "not JSON"),
        ("error", "1 2", "because", "not JSON"),
    ] {
        let form = form.clone().with("verdict", verdict).with("json", json).with("reason", reason);
        let again = site.post(ALICE, &form).await.with(StatusCode::UNPROCESSABLE_ENTITY);
        again.shows(&[says, "class=\"mistake\"", form.value("token"), reason.trim()]);
        assert_eq!(idempotency.inspect("charge", "order-17").await.unwrap().unwrap().seen(), seen);
    }
    site.post(ALICE, &form.clone().without("verdict").without("reason")).await.with(StatusCode::UNPROCESSABLE_ENTITY);
    let good = form.with("verdict", "result").with("json", " 1.50 ").with("reason", &fits);
    site.post(ALICE, &good).await.with(StatusCode::OK);
    let record = idempotency.inspect("charge", "order-17").await.unwrap().unwrap();
    assert!(record.context.unwrap().ends_with(&fits));
    // Digits are not rewritten.
    assert!(matches!(record.state, idempotent_runtime::State::Done(Outcome::Ok(bytes)) if *bytes == *b"1.50"));
}

/// The record was changed by a run, by another operator, or is gone, since the view was made.
async fn a_stale_view_loses(backend: Backend) {
    let idempotency = Idempotency::new(backend.store().await);
    let site = Site::new(&idempotency);
    let form = async |key: &str| {
        abandoned(&idempotency, &format!("charge|{key}")).await;
        site.form(ALICE, "charge", key).await.with("verdict", "rerun").with("reason", "because")
    };
    let by_a_run = form("a").await;
    claim(&idempotency, "charge|a", LONG, "request 18").await;
    let reply = site.post(ALICE, &by_a_run).await.with(StatusCode::CONFLICT);
    reply.shows(&["Somebody was quicker", "Nothing was changed", "request 18", "<span class=\"state running\">"]);

    let by_another = form("b").await;
    let seen = idempotency.inspect("charge", "b").await.unwrap().unwrap();
    let verdict = Verdict::happened(&1, "bob", "seen on the statement").unwrap();
    assert_eq!(idempotency.operator().resolve(&seen, verdict).await.unwrap(), Resolving::Applied);
    let reply = site.post(ALICE, &by_another).await.with(StatusCode::CONFLICT);
    reply.shows(&["Somebody was quicker", "resolved as ok by bob: seen on the statement"]);
    // Also where the form has a mistake.
    let reply = site.post(ALICE, &by_another.with("reason", "")).await.with(StatusCode::CONFLICT);
    reply.shows(&["Somebody was quicker"]);

    let gone = form("c").await;
    assert!(idempotency.forget("charge", "c").await.unwrap());
    site.post(ALICE, &gone).await.with(StatusCode::CONFLICT).shows(&["The record is gone", "runs as attempt 1"]);
    // Another life of the key, in the same state.
    abandoned(&idempotency, "charge|c").await;
    site.post(ALICE, &gone).await.with(StatusCode::CONFLICT).shows(&["Somebody was quicker"]);
}

async fn of_two_operators_one_wins(backend: Backend) {
    let idempotency = Idempotency::new(backend.store().await);
    let site = Site::new(&idempotency);
    for round in 0..10 {
        let key = format!("order-{round}");
        abandoned(&idempotency, &format!("charge|{key}")).await;
        let form = async |person, result| {
            let form = site.form(person, "charge", &key).await;
            form.with("verdict", "result").with("json", result).with("reason", "because")
        };
        let (alices, bobs) = (form(ALICE, "1").await, form(BOB, "2").await);
        let (one, other) = tokio::join!(site.post(ALICE, &alices), site.post(BOB, &bobs));
        let (winner, loser, name) =
            if one.status == StatusCode::OK { (one, other, "alice") } else { (other, one, "bob") };
        winner.with(StatusCode::OK);
        let told = format!("resolved as ok by {name}");
        loser.with(StatusCode::CONFLICT).shows(&["Somebody was quicker", &told]);
        let record = idempotency.inspect("charge", &key).await.unwrap().unwrap();
        assert!(record.context.unwrap().starts_with(&told));
    }
}

/// A lease that had lapsed when the view was made is renewed before the form is sent.
async fn a_live_owner_is_not_robbed(backend: Backend) {
    let idempotency = Idempotency::new(backend.store().await);
    let site = Site::new(&idempotency);
    let (key, token) = claim(&idempotency, "charge|order-17", Duration::from_secs(5), "request 17").await;
    site.get(ALICE, &record("charge", "order-17")).await.shows(&["A run is under way"]).hides(&["name=\"token\""]);
    backend.advance(Duration::from_secs(6)).await;
    for verdict in ["result", "error", "rerun", "forget"] {
        let form = site.form(ALICE, "charge", "order-17").await;
        let form = form.with("verdict", verdict).with("json", "1").with("reason", "because");
        let store = idempotency.store();
        let _ = store.renew(&key, &token, LONG, LONG).await.unwrap();
        let reply = site.post(ALICE, &form).await.with(StatusCode::CONFLICT);
        reply.shows(&["The run is alive", "Nothing was changed", "attempt 1 is alive"]);
        let record = idempotency.inspect("charge", "order-17").await.unwrap().unwrap();
        assert_eq!(record.owner, token.nonce, "{verdict}");
        let _ = store.renew(&key, &token, Duration::from_secs(5), LONG).await.unwrap();
        backend.advance(Duration::from_secs(6)).await;
    }
}

async fn a_result_does_not_change(backend: Backend) {
    let idempotency = Idempotency::new(backend.store().await);
    let site = Site::new(&idempotency);
    for (outcome, says) in [
        (Outcome::Ok("1".into()), "The record has a result"),
        (Outcome::Err("1".into()), "The record has a result"),
        (Outcome::Dead, "The message is a dead letter"),
    ] {
        ended(&idempotency, "charge|order-17", outcome.clone()).await;
        let form = site.form(ALICE, "charge", "order-17").await.with("reason", "because");
        for verdict in ["result", "error", "rerun"] {
            let form = form.clone().with("verdict", verdict).with("json", "2");
            site.post(ALICE, &form).await.with(StatusCode::CONFLICT).shows(&[says, "Nothing was changed"]);
            let record = idempotency.inspect("charge", "order-17").await.unwrap().unwrap();
            assert_eq!(record.state, idempotent_runtime::State::Done(outcome.clone()), "{verdict}");
        }
        site.post(ALICE, &form.with("verdict", "forget")).await.with(StatusCode::OK);
        assert!(idempotency.inspect("charge", "order-17").await.unwrap().is_none());
    }
}
