//! Stripe's manners: the presets `stripe_v1` and `stripe_v2`.

use std::{future::Future, time::Duration};

use axum::{
    extract::Request,
    response::{IntoResponse, Response},
};
use http::{Method, StatusCode};
use idempotent_runtime::{
    StoreErrorKind,
    testing::{Fault, Gate, Method as Step},
    tower::{ChooseScope, IdempotencyLayer, NotBegun},
};

use crate::support::{Backend, Client, Preset, Reply, Server, charge};

idempotent_tests::on_every_store!(
    b01_replays_name_the_original_request,
    b02_v1_keeps_500_and_frees_what_did_not_begin,
    b03_concurrent_and_other_requests,
    b04_lengths_methods_and_retention,
    b05_should_retry,
);

const V1: Preset = IdempotencyLayer::stripe_v1;
const V2: Preset = IdempotencyLayer::stripe_v2;

async fn start<F>(
    backend: &Backend,
    preset: Preset,
    handler: impl Fn(u64, Request) -> F + Clone + Send + Sync + 'static,
) -> Server
where
    F: Future<Output = Response> + Send + 'static,
{
    Server::of(backend, preset, ChooseScope::unscoped, handler, |router| router).await
}

/// Answers with the status that its path names.
async fn by_path(run: u64, request: Request) -> Response {
    let status = StatusCode::from_bytes(&request.uri().path().as_bytes()[1..]).expect("a status");
    (status, format!("run {run}")).into_response()
}

async fn post(client: &Client, path: &str, key: &str, body: &'static str) -> Reply {
    client.send(Method::POST, path, &[("idempotency-key", key.as_bytes())], body).await
}

fn assert_error(reply: &Reply, status: u16, kind: &str, code: Option<&str>) {
    let error = &reply.json()["error"];
    assert_eq!((reply.status.as_u16(), error["type"].as_str(), error["code"].as_str()), (status, Some(kind), code));
    assert!(error["message"].is_string());
    assert_eq!(reply.header("content-type"), Some("application/json"));
    assert!(reply.headers.contains_key("request-id"));
}

async fn b01_replays_name_the_original_request(backend: Backend) {
    let server = start(&backend, V1, charge).await;
    let client = server.client();
    let first = client.post("k", "amount=1").await;
    first.assert_charge(1, false);
    let original = first.header("request-id").expect("a request id").to_owned();
    assert_eq!(first.header("original-request"), Some(original.as_str()));
    let mut ids = std::collections::BTreeSet::from([original.clone()]);
    for _ in 0..2 {
        let replay = client.post("k", "amount=1").await;
        replay.assert_charge(1, true);
        assert_eq!(replay.header("original-request"), Some(original.as_str()));
        assert!(ids.insert(replay.header("request-id").expect("a request id").to_owned()), "of its own");
        assert_eq!(replay.header("idempotency-key"), Some("k"));
    }
    assert_eq!(first.header("idempotency-key"), Some("k"));
    // A name that the handler gives counts.
    let named = async |_, _| [("request-id", "req_own")].into_response();
    let server = start(&backend, V1, named).await;
    let client = server.client();
    assert_eq!(client.post("named", "").await.header("request-id"), Some("req_own"));
    let replay = client.post("named", "").await;
    assert_eq!(replay.header("original-request"), Some("req_own"));
    assert_ne!(replay.header("request-id"), Some("req_own"));
}

async fn b02_v1_keeps_500_and_frees_what_did_not_begin(backend: Backend) {
    let server = start(&backend, V1, by_path).await;
    let client = server.client();
    for path in ["/500", "/402", "/503"] {
        for replayed in [false, true] {
            let reply = post(&client, path, path, "").await;
            assert_eq!((reply.status.as_str(), reply.is_replay()), (&path[1..], replayed));
        }
    }
    assert_eq!(server.runs.count(), 3);

    let checks = async |run: u64, request: Request| {
        let body = axum::body::to_bytes(request.into_body(), 1000).await.expect("a body");
        if body.starts_with(b"amount=") {
            return charge(run, Request::default()).await;
        }
        let mut refused = StatusCode::BAD_REQUEST.into_response();
        refused.extensions_mut().insert(NotBegun);
        refused
    };
    let server = start(&backend, V1, checks).await;
    let client = server.client();
    for _ in 0..2 {
        let refused = client.post("k", "amuont=1").await;
        assert_eq!((refused.status, refused.is_replay()), (StatusCode::BAD_REQUEST, false));
    }
    client.post("k", "amount=1").await.assert_charge(3, false);
    client.post("k", "amount=1").await.assert_charge(3, true);
}

async fn b03_concurrent_and_other_requests(backend: Backend) {
    let gate = Gate::new();
    let held = gate.clone();
    let handler = move |run, request| {
        let held = held.clone();
        async move {
            held.pass().await;
            charge(run, request).await
        }
    };
    let server = start(&backend, V1, handler).await;
    let client = server.client();
    let first = {
        let client = client.clone();
        tokio::spawn(async move { client.post("k", "amount=1").await })
    };
    gate.reached(1).await;
    for _ in 0..2 {
        let busy = client.post("k", "amount=1").await;
        assert_error(&busy, 409, "invalid_request_error", Some("idempotency_key_in_use"));
        assert_eq!(busy.header("stripe-should-retry"), Some("true"));
    }
    gate.open();
    first.await.unwrap().assert_charge(1, false);
    client.post("k", "amount=1").await.assert_charge(1, true);
    for other in [client.post("k", "amount=2").await, post(&client, "/refunds", "k", "amount=1").await] {
        assert_error(&other, 400, "idempotency_error", None);
        assert_eq!(other.header("stripe-should-retry"), Some("false"));
    }
    client.post("k", "amount=1").await.assert_charge(1, true);
    assert_eq!(server.runs.count(), 1);
}

async fn b04_lengths_methods_and_retention(backend: Backend) {
    let send = async |client: &Client, method: Method, key: &str| {
        client.send(method, "/charges", &[("idempotency-key", key.as_bytes())], "").await
    };
    let v1 = start(&backend, V1, charge).await;
    let client = v1.client();
    let long = "k".repeat(256);
    send(&client, Method::POST, &long[1..]).await.assert_charge(1, false);
    send(&client, Method::POST, &long[1..]).await.assert_charge(1, true);
    assert_error(&send(&client, Method::POST, &long).await, 400, "invalid_request_error", Some("key_malformed"));
    for (run, method) in (2..).zip([Method::GET, Method::GET, Method::DELETE, Method::DELETE]) {
        send(&client, method, "ignored").await.assert_charge(run, false);
    }
    client.send(Method::POST, "/charges", &[], "").await.assert_charge(6, false);

    let v2 = start(&backend, V2, by_path).await;
    let client = v2.client();
    let send = async |method: Method, path: &str| {
        client.send(method.clone(), path, &[("idempotency-key", format!("{method}{path}").as_bytes())], "").await
    };
    for method in [Method::POST, Method::DELETE] {
        for path in ["/200", "/400", "/500"] {
            let replays = [send(method.clone(), path).await, send(method.clone(), path).await].map(|r| r.is_replay());
            assert_eq!(replays, [false, path == "/200"], "{method} {path}");
        }
    }
    backend.advance(Duration::from_secs(30 * 24 * 60 * 60 - 60)).await;
    assert!(send(Method::POST, "/200").await.is_replay());
    backend.advance(Duration::from_secs(60)).await;
    assert!(!send(Method::POST, "/200").await.is_replay());
}

async fn b05_should_retry(backend: Backend) {
    let hint = |reply: &Reply| reply.header("stripe-should-retry").map(str::to_owned);
    let v1 = start(&backend, V1, by_path).await;
    let client = v1.client();
    // What is kept would only be told again.
    for (path, expected) in [("/200", None), ("/402", None), ("/409", Some("false")), ("/500", Some("false"))] {
        for _ in 0..2 {
            assert_eq!(hint(&post(&client, path, path, "").await).as_deref(), expected, "{path}");
        }
    }
    // What is not kept is for the client to judge by its status.
    assert_eq!(hint(&post(&client, "/429", "/429", "").await), None);
    assert_eq!(hint(&post(&client, "/200", &"k".repeat(256), "").await).as_deref(), Some("false"));
    let v2 = start(&backend, V2, by_path).await;
    assert_eq!(hint(&post(&v2.client(), "/500", "v2", "").await), None);
    // Nothing has happened without the store.
    for step in [Step::Claim, Step::Peek] {
        v1.store.always(step, Fault::FailBefore(StoreErrorKind::Unavailable));
    }
    let down = post(&client, "/200", "new", "").await;
    assert_error(&down, 503, "api_error", Some("store"));
    assert_eq!(hint(&down).as_deref(), Some("true"));
}
