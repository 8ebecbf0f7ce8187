//! Tests which requests are repeats, and what a repeat gets.

use std::time::Duration;

use axum::{body::Body, extract::Request, middleware, response::IntoResponse};
use bytes::Bytes;
use http::{Method, StatusCode, header::CONTENT_TYPE};
use idempotent_runtime::{
    testing::{Fault, Gate, Method as Step},
    tower::{ChooseScope, IdempotencyLayer, IdempotencyLayerBuilder, RequestFingerprint},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::{Backend, Client, Pieces, Reply, Server, charge, created};

const UUID: &str = "\"8e03978e-40d5-43dd-bc93-6894a57f9324\"";

idempotent_tests::on_every_store!(
    a01_first_request_runs,
    a02_repeat_is_replayed,
    a02_response_comes_when_it_is_on_record,
    a02_response_that_is_not_kept_comes_when_the_key_is_free,
    a03_client_errors_replay_and_server_errors_do_not,
    a04_repeat_in_flight_is_told_to_come_again,
    a04_repeat_in_flight_can_wait,
    a05_repeat_after_in_flight_replays,
    a07_other_payload_is_refused,
    a08_other_payload_in_flight_is_refused,
    a09_each_error_has_its_own_type_and_code,
    a13_principals_do_not_share_keys,
    a14_key_is_of_one_method_path_and_query,
    a15_after_the_ttl_it_runs_anew,
    a17_what_outer_layers_answer_is_not_stored,
    a18_one_request_however_it_is_sent,
    a18_absolute_form_and_100_continue,
    a18_json_key_order_and_white_space_do_not_matter,
);

async fn a01_first_request_runs(backend: Backend) {
    let server = Server::start(&backend, |builder| builder, charge).await;
    server.client().post(UUID, "amount=1").await.assert_charge(1, false);
    assert_eq!(server.runs.count(), 1);
}

async fn a02_repeat_is_replayed(backend: Backend) {
    let server = Server::start(&backend, |builder| builder, charge).await;
    let first = server.client().post(UUID, "amount=1").await;
    for _ in 0..3 {
        let repeat = server.client().post(UUID, "amount=1").await;
        repeat.assert_charge(1, true);
        assert_eq!(repeat.header("content-length"), first.header("content-length"));
    }
    assert_eq!(server.runs.count(), 1);
}

/// Has a step of the store wait, and sees that the response waits for it.
async fn assert_waits_for(backend: &Backend, step: Step, status: StatusCode) {
    let handler = move |run: u64, _| async move { (status, format!("run {run}")).into_response() };
    let server = Server::start(backend, |builder| builder, handler).await;
    let gate = Gate::new();
    server.store.next(step, [Fault::HoldBefore(gate.clone())]);
    let client = server.client();
    let mut first = tokio::spawn(async move { client.post("k", "").await });
    gate.reached(1).await;
    let early = tokio::time::timeout(Duration::from_millis(100), &mut first).await;
    assert!(early.is_err(), "{early:?}");
    gate.open();
    assert_eq!(first.await.unwrap().body, "run 1");
}

async fn a02_response_comes_when_it_is_on_record(backend: Backend) {
    assert_waits_for(&backend, Step::Complete, StatusCode::OK).await;
}

async fn a02_response_that_is_not_kept_comes_when_the_key_is_free(backend: Backend) {
    assert_waits_for(&backend, Step::Release, StatusCode::INTERNAL_SERVER_ERROR).await;
}

async fn a03_client_errors_replay_and_server_errors_do_not(backend: Backend) {
    let handler = |run: u64, request: Request| async move {
        let status = StatusCode::from_bytes(&request.uri().path().as_bytes()[1..]).expect("a status");
        (status, format!("run {run}")).into_response()
    };
    for (status, kept) in [(200, true), (302, true), (400, true), (402, true), (404, true), (409, true), (422, true)]
        .into_iter()
        .chain([(408, false), (425, false), (429, false), (500, false), (502, false), (503, false)])
    {
        let server = Server::start(&backend, |builder| builder, handler).await;
        let (client, key, path) = (server.client(), format!("status-{status}"), format!("/{status}"));
        for run in 1..=3 {
            let reply = client.send(Method::POST, &path, &[("idempotency-key", key.as_bytes())], "").await;
            assert_eq!(reply.status, status);
            assert_eq!(reply.body, format!("run {}", if kept { 1 } else { run }), "{status}");
            assert_eq!(reply.is_replay(), kept && run > 1, "{status}");
        }
    }
    let settings = |builder: IdempotencyLayerBuilder| builder.keep_status(|status| status == StatusCode::OK);
    let server = Server::start(&backend, settings, handler).await;
    for _ in 0..2 {
        let reply = server.client().send(Method::POST, "/404", &[("idempotency-key", b"policy")], "").await;
        assert!(!reply.is_replay());
    }
    assert_eq!(server.runs.count(), 2);
}

/// A server whose handlers wait at the gate.
async fn gated(backend: &Backend, wait: Duration) -> (Server, Gate) {
    let gate = Gate::new();
    let held = gate.clone();
    let handler = move |run, request| {
        let held = held.clone();
        async move {
            held.pass().await;
            charge(run, request).await
        }
    };
    (Server::start(backend, |builder| builder.wait(wait), handler).await, gate)
}

/// Sends a request whose handler has come to the gate.
async fn running(client: &Client, gate: &Gate) -> tokio::task::JoinHandle<Reply> {
    let client = client.clone();
    let first = tokio::spawn(async move { client.post("k", "amount=1").await });
    gate.reached(1).await;
    first
}

fn assert_in_flight(reply: &Reply) {
    reply.assert_problem(409, "in-flight");
    let seconds: u64 = reply.header("retry-after").expect("Retry-After").parse().expect("seconds");
    assert!((1..=30).contains(&seconds));
}

async fn a04_repeat_in_flight_is_told_to_come_again(backend: Backend) {
    let (server, gate) = gated(&backend, Duration::ZERO).await;
    let client = server.client();
    let first = running(&client, &gate).await;
    for _ in 0..3 {
        assert_in_flight(&client.post("k", "amount=1").await);
    }
    gate.open();
    first.await.unwrap().assert_charge(1, false);
    assert_eq!(server.runs.count(), 1);
}

async fn a04_repeat_in_flight_can_wait(backend: Backend) {
    let (server, gate) = gated(&backend, Duration::from_secs(30)).await;
    let client = server.client();
    let first = running(&client, &gate).await;
    let repeat = {
        let client = client.clone();
        tokio::spawn(async move { client.post("k", "amount=1").await })
    };
    // Long enough for a refusal to come; it shows itself at the end, too.
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!repeat.is_finished());
    gate.open();
    first.await.unwrap().assert_charge(1, false);
    repeat.await.unwrap().assert_charge(1, true);
    assert_eq!(server.runs.count(), 1);
}

async fn a05_repeat_after_in_flight_replays(backend: Backend) {
    let (server, gate) = gated(&backend, Duration::ZERO).await;
    let client = server.client();
    let first = running(&client, &gate).await;
    assert_in_flight(&client.post("k", "amount=1").await);
    gate.open();
    first.await.unwrap().assert_charge(1, false);
    client.post("k", "amount=1").await.assert_charge(1, true);
    assert_eq!(server.runs.count(), 1);
}

async fn a07_other_payload_is_refused(backend: Backend) {
    let server = Server::start(&backend, |builder| builder, charge).await;
    let client = server.client();
    client.post("k", "amount=1").await.assert_charge(1, false);
    for other in ["amount=2", "", "amount=1 "] {
        client.post("k", other).await.assert_problem(422, "mismatch");
    }
    client.post("k", "amount=1").await.assert_charge(1, true);
    assert_eq!(server.runs.count(), 1);
}

async fn a08_other_payload_in_flight_is_refused(backend: Backend) {
    let (server, gate) = gated(&backend, Duration::ZERO).await;
    let client = server.client();
    let first = running(&client, &gate).await;
    client.post("k", "amount=2").await.assert_problem(422, "mismatch");
    assert_in_flight(&client.post("k", "amount=1").await);
    gate.open();
    first.await.unwrap().assert_charge(1, false);
    client.post("k", "amount=1").await.assert_charge(1, true);
    assert_eq!(server.runs.count(), 1);
}

async fn a09_each_error_has_its_own_type_and_code(backend: Backend) {
    let (server, gate) = gated(&backend, Duration::ZERO).await;
    let short = Server::start(&backend, |builder| builder.max_request_body(4), charge).await;
    let client = server.client();
    let first = running(&client, &gate).await;
    let errors = [
        client.send(Method::POST, "/charges", &[], "").await,
        client.post("a, b", "").await,
        client.post("k", "amount=1").await,
        client.post("k", "amount=2").await,
        short.client().post("large", "amount=1").await,
    ];
    let types: std::collections::BTreeSet<_> =
        errors.iter().map(|error| (error.json()["type"].to_string(), error.json()["code"].to_string())).collect();
    assert_eq!(types.len(), errors.len(), "{types:?}");
    gate.open();
    first.await.unwrap();

    let documented = |builder: IdempotencyLayerBuilder| builder.problem_base("https://example.com/problems/");
    let server = Server::start(&backend, documented, charge).await;
    let missing = server.client().send(Method::POST, "/", &[], "").await;
    assert_eq!(missing.json()["type"], "https://example.com/problems/key-missing");
    assert_eq!(missing.header("link"), Some("<https://example.com/problems/key-missing>; rel=\"describedby\""));
}

async fn a13_principals_do_not_share_keys(backend: Backend) {
    let scoped =
        |choose: ChooseScope| choose.scope(|parts| Some(parts.headers.get("authorization")?.to_str().ok()?.to_owned()));
    let server = Server::of(&backend, IdempotencyLayer::ietf, scoped, charge, |router| router).await;
    let client = server.client();
    let post = async |principal: &str| {
        let headers: [(&str, &[u8]); 2] = [("idempotency-key", b"k"), ("authorization", principal.as_bytes())];
        client.send(Method::POST, "/charges", &headers, "amount=1").await
    };
    post("ada").await.assert_charge(1, false);
    post("bob").await.assert_charge(2, false);
    post("ada").await.assert_charge(1, true);
    post("bob").await.assert_charge(2, true);
    // No principal is none of them.
    let calls = server.store_calls();
    client.post("k", "amount=1").await.assert_problem(403, "no-scope");
    assert_eq!((server.runs.count(), server.store_calls()), (2, calls));
    // A principal and a key are not joined to one text.
    let post = async |principal: &str, key: &str| {
        let headers = [("idempotency-key", key.as_bytes()), ("authorization", principal.as_bytes())];
        client.send(Method::POST, "/charges", &headers, "").await
    };
    post("a", "b:c").await.assert_charge(3, false);
    post("a:b", "c").await.assert_charge(4, false);
}

async fn a14_key_is_of_one_method_path_and_query(backend: Backend) {
    let settings = |builder: IdempotencyLayerBuilder| builder.methods([Method::POST, Method::PUT]);
    let server = Server::start(&backend, settings, charge).await;
    let client = server.client();
    let send = async |method, path| client.send(method, path, &[("idempotency-key", b"k")], "amount=1").await;
    send(Method::POST, "/charges?a=1").await.assert_charge(1, false);
    for (method, path) in [
        (Method::PUT, "/charges?a=1"),
        (Method::POST, "/refunds?a=1"),
        (Method::POST, "/charges?a=2"),
        (Method::POST, "/charges?"),
        (Method::POST, "/charges"),
        (Method::POST, "/charges/?a=1"),
    ] {
        send(method, path).await.assert_problem(422, "mismatch");
    }
    send(Method::POST, "/charges?a=1").await.assert_charge(1, true);
    assert_eq!(server.runs.count(), 1);
}

async fn a15_after_the_ttl_it_runs_anew(backend: Backend) {
    let ttl = Duration::from_secs(3600);
    let server = Server::start(&backend, |builder| builder.ttl(ttl), charge).await;
    let client = server.client();
    let first = client.post("k", "amount=1").await;
    first.assert_charge(1, false);
    assert_eq!(first.header("idempotency-ttl"), Some("3600"));
    backend.advance(ttl - Duration::from_secs(10)).await;
    let repeat = client.post("k", "amount=1").await;
    repeat.assert_charge(1, true);
    assert_eq!(repeat.header("idempotency-ttl"), Some("3600"));
    backend.advance(Duration::from_secs(10)).await;
    client.post("k", "amount=1").await.assert_charge(2, false);
    // Another request, too: nothing is left of the first.
    backend.advance(ttl).await;
    client.post("k", "amount=2").await.assert_charge(3, false);
}

async fn a17_what_outer_layers_answer_is_not_stored(backend: Backend) {
    let outer = |router: axum::Router| {
        router.layer(middleware::from_fn(async |request: Request, next: middleware::Next| {
            match request.headers().get("refuse") {
                Some(status) => StatusCode::from_bytes(status.as_bytes()).expect("a status").into_response(),
                None => next.run(request).await,
            }
        }))
    };
    let server = Server::of(&backend, IdempotencyLayer::ietf, |choose| choose.unscoped(), charge, outer).await;
    let client = server.client();
    for status in ["401", "403", "413", "429"] {
        let headers: [(&str, &[u8]); 2] = [("idempotency-key", b"k"), ("refuse", status.as_bytes())];
        assert_eq!(client.send(Method::POST, "/charges", &headers, "amount=1").await.status.as_str(), status);
    }
    assert_eq!((server.store_calls(), server.runs.count()), (0, 0));
    client.post("k", "amount=1").await.assert_charge(1, false);
}

async fn a18_one_request_however_it_is_sent(backend: Backend) {
    let server = Server::start(&backend, |builder| builder, charge).await;
    let chunked = |pieces: [&'static str; 3]| Body::new(Pieces(pieces.map(Bytes::from).into_iter().collect()));
    let (http1, http2) = (server.client(), server.client_of_http2());
    http1.post("k", "amount=1").await.assert_charge(1, false);
    http1.post("k", chunked(["amo", "unt", "=1"])).await.assert_charge(1, true);
    http1.post("k", chunked(["amount=1", "", ""])).await.assert_charge(1, true);
    http2.post("k", "amount=1").await.assert_charge(1, true);
    http2.post("k", chunked(["a", "mount", "=1"])).await.assert_charge(1, true);
    http2.post("k", chunked(["a", "mount", "=2"])).await.assert_problem(422, "mismatch");
    assert_eq!(server.runs.count(), 1);
}

/// A client writes to a proxy, and asks before it sends its body.
async fn a18_absolute_form_and_100_continue(backend: Backend) {
    let server = Server::start(&backend, |builder| builder, charge).await;
    server.client().post("k", "amount=1").await.assert_charge(1, false);
    let mut socket = TcpStream::connect(server.address).await.unwrap();
    let head = "POST http://shop.example/charges HTTP/1.1\r\nhost: shop.example\r\nidempotency-key: k\r\n\
         expect: 100-continue\r\nconnection: close\r\ncontent-length: 8\r\n\r\n";
    socket.write_all(head.as_bytes()).await.unwrap();
    let mut interim = *b"HTTP/1.1 ... ........\r\n\r\n";
    socket.read_exact(&mut interim).await.unwrap();
    assert_eq!(interim, *b"HTTP/1.1 100 Continue\r\n\r\n");
    socket.write_all(b"amount=1").await.unwrap();
    let mut reply = String::new();
    socket.read_to_string(&mut reply).await.unwrap();
    assert!(reply.starts_with("HTTP/1.1 201") && reply.ends_with("charge 1"), "{reply}");
    assert!(reply.contains("idempotent-replayed: true"), "{reply}");
    assert_eq!(server.runs.count(), 1);
}

async fn a18_json_key_order_and_white_space_do_not_matter(backend: Backend) {
    let settings = |builder: IdempotencyLayerBuilder| builder.fingerprint(RequestFingerprint::json());
    // The handler gets the bytes as they were sent.
    let echo = |_, request: Request| async move { created(request.into_body()) };
    let server = Server::start(&backend, settings, echo).await;
    let client = server.client();
    let post = async |body: &'static str, content_type: &str| {
        let headers: [(&str, &[u8]); 2] = [("idempotency-key", b"k"), (CONTENT_TYPE.as_str(), content_type.as_bytes())];
        client.send(Method::POST, "/charges", &headers, body).await
    };
    let first = post(r#"{ "amount": 1, "to": "ada" }"#, "application/json").await;
    assert_eq!(first.body, r#"{ "amount": 1, "to": "ada" }"#);
    for same in [r#"{"to":"ada","amount":1}"#, r#"{"to":"ada","amount":1.0}"#, "{\"amount\":1,\n\"to\":\"\\u0061da\"}"]
    {
        let reply = post(same, "application/vnd.api+json; charset=utf-8").await;
        assert!(reply.is_replay());
        assert_eq!(reply.body, first.body);
    }
    for other in [r#"{"to":"ada","amount":1.5}"#, r#"{"to":"ada","amount":"1"}"#, r#"{"to":"ada","amount":1"#] {
        post(other, "application/json").await.assert_problem(422, "mismatch");
    }
    post(r#"{"to":"ada","amount":1}"#, "text/plain").await.assert_problem(422, "mismatch");
    assert_eq!(server.runs.count(), 1);
}
