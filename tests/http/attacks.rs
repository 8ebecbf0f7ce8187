//! Attacks that try to make the layer lie: bodies that break their contract, claims that are lost on the way, panics in odd
//! places.

use std::{
    collections::VecDeque,
    convert::Infallible,
    io::{self, Write as _},
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use axum::extract::Request;
use bytes::Bytes;
use http::{HeaderName, Method, StatusCode};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::{BodyExt, Full};
use idempotent_runtime::{
    Idempotency, StoreErrorKind,
    store::memory::MemoryStore,
    testing::{Fault, FaultyStore, Gate, Method as Step},
    tower::{ChooseScope, IdempotencyLayer, IdempotencyLayerBuilder, RequestBody},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::mpsc,
};
use tower::{Layer, ServiceExt, limit::ConcurrencyLimitLayer};

use crate::support::{Backend, Channel, Client, Runs, Server, charge, created, serve, serve_hyper, streaming};

idempotent_tests::on_every_store!(
    a_stream_whose_claim_was_lost_does_not_look_whole,
    a_response_whose_claim_was_lost_is_the_key_s,
    a_body_that_fails_at_once_does_not_look_whole,
    two_requests_in_one_packet,
    a_panic_of_the_policy_is_a_failed_handler,
    a_panic_of_a_body_beside_its_frames_is_its_failure,
    an_inner_layer_that_says_ask_again_is_asked_again,
    what_an_inner_layer_refuses_is_not_kept,
    a_replay_holds_no_permit_of_the_inner_service,
    a_client_gone_while_claiming_leaves_the_key_free,
    lost_replies_of_every_step,
    a_json_body_of_any_depth_is_replayed,
    ids_of_requests_that_are_kept_as_headers_are_not_doubled,
);

const KEY: [(&str, &[u8]); 1] = [("idempotency-key", b"k")];
const LEASE: Duration = Duration::from_secs(30);

async fn a_stream_whose_claim_was_lost_does_not_look_whole(backend: Backend) {
    let (late, sender) = streaming(&backend, |builder| builder.lease(LEASE)).await;
    late.store.always(Step::Renew, Fault::LOST_REQUEST);
    let (_, _, body) = late.client().begin(Method::POST, "/charges", &KEY, "amount=1").await;
    sender.send(Ok(Bytes::from_static(b"late"))).unwrap();
    backend.advance(LEASE * 2).await;
    let other = Server::start(&backend, |builder| builder.lease(LEASE), charge).await;
    other.client().post("k", "amount=1").await.assert_charge(1, false);
    drop(sender);
    assert!(body.collect().await.is_err(), "the key's response is another");
    late.client().post("k", "amount=1").await.assert_charge(1, true);
}

async fn a_response_whose_claim_was_lost_is_the_key_s(backend: Backend) {
    let gate = Gate::new();
    let held = gate.clone();
    let handler = move |_, _| {
        let held = held.clone();
        async move {
            held.pass().await;
            created("late")
        }
    };
    let late = Server::start(&backend, |builder| builder.lease(LEASE), handler).await;
    late.store.always(Step::Renew, Fault::LOST_REQUEST);
    let client = late.client();
    let first = tokio::spawn(async move { client.post("k", "amount=1").await });
    gate.reached(1).await;
    backend.advance(LEASE * 2).await;
    let other = Server::start(&backend, |builder| builder.lease(LEASE), charge).await;
    other.client().post("k", "amount=1").await.assert_charge(1, false);
    gate.open();
    first.await.unwrap().assert_charge(1, true);
}

async fn a_body_that_fails_at_once_does_not_look_whole(backend: Backend) {
    let layer =
        IdempotencyLayer::ietf("shop", Idempotency::new(backend.caller().await.store)).unscoped().build().unwrap();
    let runs = Runs::default();
    let counted = runs.clone();
    let service = layer.layer(tower::service_fn(move |_: http::Request<_>| {
        counted.begin();
        let (sender, body) = mpsc::unbounded_channel();
        sender.send(Ok(Bytes::from_static(b"half"))).unwrap();
        sender.send(Err("the disk is gone")).unwrap();
        async move { Ok::<_, Infallible>(http::Response::new(Channel(body))) }
    }));
    let mut body = service.clone().oneshot(request("k", "")).await.unwrap().into_body();
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "half");
    assert_eq!(body.frame().await.unwrap().unwrap_err().to_string(), "the disk is gone");
    let repeat = service.oneshot(request("k", "")).await.unwrap();
    assert_eq!((repeat.status(), runs.count()), (StatusCode::INTERNAL_SERVER_ERROR, 1));
}

async fn two_requests_in_one_packet(backend: Backend) {
    let server = Server::start(&backend, |builder| builder, charge).await;
    let mut socket = TcpStream::connect(server.address).await.unwrap();
    let request = |close: &str| {
        format!("POST /charges HTTP/1.1\r\nhost: x\r\nidempotency-key: k\r\n{close}content-length: 8\r\n\r\namount=1")
    };
    socket.write_all((request("") + &request("connection: close\r\n")).as_bytes()).await.unwrap();
    let mut replies = String::new();
    socket.read_to_string(&mut replies).await.unwrap();
    assert_eq!(replies.matches("HTTP/1.1 201").count(), 2, "{replies}");
    assert_eq!(replies.matches("idempotent-replayed: true").count(), 1, "{replies}");
    assert_eq!((replies.matches("charge 1").count(), server.runs.count()), (2, 1));
}

async fn a_panic_of_the_policy_is_a_failed_handler(backend: Backend) {
    let panics = |builder: IdempotencyLayerBuilder| builder.keep_status(|_| panic!("as the test wants it"));
    let server = Server::start(&backend, panics, charge).await;
    let client = server.client();
    for runs in 1..=2 {
        client.post("k", "amount=1").await.assert_problem(500, "handler-failed");
        assert_eq!(server.runs.count(), runs);
    }
}

/// The method in which a body panics.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Panics {
    SizeHint,
    IsEnd,
    Drop,
}

struct Panicking {
    panics: Panics,
    frames: VecDeque<&'static str>,
    /// True if it makes the layer wait before its last frame.
    waits: bool,
}

impl Panicking {
    fn assert_not(&self, panics: Panics) {
        assert!(self.panics != panics, "as the test wants it");
    }
}

impl HttpBody for Panicking {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.waits && self.frames.len() == 1 {
            self.waits = false;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(self.frames.pop_front().map(|piece| Ok(Frame::data(Bytes::from(piece)))))
    }

    fn is_end_stream(&self) -> bool {
        self.assert_not(Panics::IsEnd);
        false
    }

    fn size_hint(&self) -> SizeHint {
        if self.frames.len() < 2 {
            self.assert_not(Panics::SizeHint);
        }
        SizeHint::default()
    }
}

impl Drop for Panicking {
    fn drop(&mut self) {
        self.assert_not(Panics::Drop);
    }
}

async fn a_panic_of_a_body_beside_its_frames_is_its_failure(backend: Backend) {
    let store = backend.caller().await.store;
    let cases = [(Panics::SizeHint, false), (Panics::SizeHint, true), (Panics::IsEnd, true), (Panics::Drop, true)];
    for (panics, waits) in cases {
        let layer = IdempotencyLayer::ietf("shop", Idempotency::new(store.clone())).unscoped().build().unwrap();
        let runs = Runs::default();
        let counted = runs.clone();
        let service = layer.layer(tower::service_fn(move |_: http::Request<_>| {
            counted.begin();
            let body = Panicking { panics, frames: ["one ", "two"].into(), waits };
            async move { Ok::<_, Infallible>(http::Response::new(body)) }
        }));
        let key = format!("{panics:?}-{waits}");
        // Without a server around it, which might break the connection for a reason of its own.
        let first = service.clone().oneshot(request(&key, "")).await.unwrap();
        let status = first.status();
        let body = first.into_body().collect().await;
        assert!(status == StatusCode::INTERNAL_SERVER_ERROR || body.is_err(), "{key}: {status}");
        layer.idle().await;
        let repeat = service.oneshot(request(&key, "")).await.unwrap();
        assert_eq!((repeat.status(), runs.count()), (StatusCode::INTERNAL_SERVER_ERROR, 1), "{key}");
        let problem = repeat.into_body().collect().await.unwrap().to_bytes();
        assert!(String::from_utf8_lossy(&problem).contains("result-not-kept"), "{key}");
    }
}

async fn an_inner_layer_that_says_ask_again_is_asked_again(backend: Backend) {
    let handle = Idempotency::new(backend.caller().await.store);
    let layer = |name| IdempotencyLayer::ietf(name, handle.clone()).unscoped().build().unwrap();
    let gate = Gate::new();
    let (runs, held) = (Runs::default(), gate.clone());
    let handler = move |request: Request| {
        let (held, run) = (held.clone(), runs.begin());
        async move {
            held.pass().await;
            charge(run, request).await
        }
    };
    let inner = axum::Router::new().fallback(handler).layer(layer("inner"));
    let (one, other) = (inner.clone().layer(layer("one")), inner.layer(layer("other")));
    let (one, other) = (Client::of(serve(one).await), Client::of(serve(other).await));
    let first = tokio::spawn(async move { one.post("k", "").await });
    gate.reached(1).await;
    other.post("k", "").await.assert_problem(409, "in-flight");
    gate.open();
    first.await.unwrap().assert_charge(1, false);
    let repeat = other.post("k", "").await;
    assert_eq!((repeat.status, repeat.body.as_ref()), (StatusCode::CREATED, &b"charge 1"[..]));
}

async fn what_an_inner_layer_refuses_is_not_kept(backend: Backend) {
    let handle = Idempotency::new(backend.caller().await.store);
    let layer = |name| IdempotencyLayer::ietf(name, handle.clone()).unscoped();
    let header = HeaderName::from_static("x-inner-key");
    let (outer, inner) = (layer("outer").build().unwrap(), layer("inner").header(header).max_request_body(10));
    let (runs, inner) = (Runs::default(), inner.build().unwrap());
    let counted = runs.clone();
    let router = axum::Router::new().fallback(move |request: Request| charge(counted.begin(), request));
    let client = Client::of(serve(router.layer(inner).layer(outer)).await);
    let send = async |key: &str, inner: Option<&str>, body: &'static str| {
        let mut headers = vec![("idempotency-key", key.as_bytes())];
        headers.extend(inner.map(|key| ("x-inner-key", key.as_bytes())));
        client.send(Method::POST, "/charges", &headers, body).await
    };
    for _ in 0..2 {
        send("k", None, "amount=1").await.assert_problem(400, "key-missing");
        send("k", Some("a, b"), "amount=1").await.assert_problem(400, "key-malformed");
        let large = send("large", Some("large"), "amount=1.00000").await;
        large.assert_problem(413, "body-too-large");
        assert!(!large.is_replay());
    }
    send("k", Some("k"), "amount=1").await.assert_charge(1, false);
    send("k", Some("k"), "amount=1").await.assert_charge(1, true);
    for _ in 0..2 {
        let other = send("l", Some("k"), "amount=2").await;
        other.assert_problem(422, "mismatch");
        assert!(!other.is_replay());
    }
    assert_eq!(runs.count(), 1);
}

async fn a_replay_holds_no_permit_of_the_inner_service(backend: Backend) {
    let layer = IdempotencyLayer::ietf("shop", Idempotency::new(backend.caller().await.store)).unscoped();
    let layer = layer.wait(LEASE).build().unwrap();
    let runs = Runs::default();
    let service = tower::ServiceBuilder::new().layer(layer).layer(ConcurrencyLimitLayer::new(1)).service(
        tower::service_fn(move |_: http::Request<_>| {
            let run = runs.begin();
            async move {
                tokio::task::yield_now().await;
                Ok::<_, Infallible>(created(format!("charge {run}")))
            }
        }),
    );
    let client = Client::of(serve_hyper(service).await);
    let replies: Vec<_> = (0..20)
        .map(|n| {
            let client = client.clone();
            tokio::spawn(async move { client.post(&format!("k{}", n % 2), "").await.status })
        })
        .collect();
    for reply in replies {
        assert_eq!(reply.await.unwrap(), StatusCode::CREATED);
    }
    // Refused ones, too.
    client.post("k0", "other").await.assert_problem(422, "mismatch");
    client.post("a, b", "").await.assert_problem(400, "key-malformed");
    assert_eq!(client.post("k1", "").await.status, StatusCode::CREATED);
}

/// A request as the layer gets it.
fn request(key: &str, body: &'static str) -> http::Request<Full<Bytes>> {
    let request = http::Request::builder().method(Method::POST).uri("/charges").header("idempotency-key", key);
    request.body(Full::from(body)).unwrap()
}

async fn a_client_gone_while_claiming_leaves_the_key_free(backend: Backend) {
    let store = backend.caller().await.store;
    let layer = IdempotencyLayer::ietf("shop", Idempotency::new(store.clone())).unscoped().build().unwrap();
    let runs = Runs::default();
    let counted = runs.clone();
    let service = tower::service_fn(move |_: http::Request<_>| {
        let run = counted.begin();
        async move { Ok::<_, Infallible>(created(format!("charge {run}"))) }
    });
    let service = layer.layer(service);
    for (key, hold) in [("before", Fault::HoldBefore as fn(Gate) -> Fault), ("after", Fault::HoldAfter)] {
        let gate = Gate::new();
        store.next(Step::Claim, [hold(gate.clone())]);
        let gone = tokio::spawn(service.clone().oneshot(request(key, "")));
        gate.reached(1).await;
        gone.abort();
        assert!(gone.await.unwrap_err().is_cancelled());
        layer.idle().await;
        gate.open();
        let before = runs.count();
        let status = loop {
            let status = service.clone().oneshot(request(key, "")).await.unwrap().status();
            if status != StatusCode::CONFLICT {
                break status;
            }
        };
        assert_eq!((status, runs.count() - before), (StatusCode::CREATED, 1), "{key}");
    }
}

async fn lost_replies_of_every_step(backend: Backend) {
    let respond = |run: u64, request: Request| async move {
        let mut response = charge(run, request).await;
        if run == 1 {
            *response.status_mut() = StatusCode::BAD_GATEWAY;
        }
        response
    };
    let server = Server::start(&backend, |builder| builder, respond).await;
    for fault in [Fault::LOST_REPLY, Fault::LOST_REQUEST] {
        for step in [Step::Claim, Step::Complete, Step::Release] {
            server.store.next(step, [fault.clone()]);
        }
    }
    let client = server.client();
    let mut replies = Vec::new();
    while replies.len() < 3 {
        let reply = client.post("k", "amount=1").await;
        match reply.status {
            StatusCode::CONFLICT => reply.assert_problem(409, "in-flight"),
            StatusCode::SERVICE_UNAVAILABLE => reply.assert_problem(503, "store"),
            _ => replies.push((reply.status.as_u16(), reply.is_replay())),
        }
    }
    assert_eq!(replies, [(502, false), (201, false), (201, true)]);
    assert_eq!(server.runs.count(), 2);
}

async fn a_json_body_of_any_depth_is_replayed(backend: Backend) {
    let text = format!("{}1e999{}", "[".repeat(50_000), "]".repeat(50_000));
    let sent = text.clone();
    let server =
        Server::start(&backend, |builder| builder, move |_, _| std::future::ready(created(sent.clone()))).await;
    for replayed in [false, true] {
        let reply = server.client().post("k", "").await;
        assert_eq!((reply.body.as_ref() == text.as_bytes(), reply.is_replay()), (true, replayed));
    }
}

async fn ids_of_requests_that_are_kept_as_headers_are_not_doubled(backend: Backend) {
    let names = ["request-id", "original-request", "location"].map(HeaderName::from_static);
    let settings = |choose: ChooseScope| choose.unscoped().keep_headers(names);
    let names_its_own = |run, request: Request| async move {
        let own = request.headers().get("own-id").cloned();
        let mut response = charge(run, request).await;
        response.headers_mut().extend(own.map(|id| (HeaderName::from_static("request-id"), id)));
        response
    };
    let server = Server::of(&backend, IdempotencyLayer::stripe_v1, settings, names_its_own, |router| router).await;
    let client = server.client();
    let own: [(&str, &[u8]); 2] = [("idempotency-key", b"own"), ("own-id", b"req_own")];
    let named = client.send(Method::POST, "/charges", &own, "").await;
    assert_eq!(named.headers.get_all("request-id").iter().collect::<Vec<_>>(), ["req_own"]);
    assert_eq!(client.post("own", "").await.headers["original-request"], "req_own");
    let (first, repeat) = (client.post("k", "").await, client.post("k", "").await);
    assert!(repeat.is_replay());
    for name in ["request-id", "original-request"] {
        assert_eq!(repeat.headers.get_all(name).iter().count(), 1, "{name}");
    }
    assert_eq!(repeat.headers["original-request"], first.headers["request-id"]);
    assert_ne!(repeat.headers["request-id"], first.headers["request-id"]);
}

/// Collects the text that is written to a log.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(text);
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// On one thread, whose subscriber sees all of it.
#[tokio::test]
async fn keys_scopes_and_bodies_are_in_no_event_and_no_debug() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE);
    // With a single one, what another test's thread says first would never be of interest to this one's.
    let _another = tracing::Dispatch::new(tracing::subscriber::NoSubscriber::default());
    let _guard = tracing::subscriber::set_default(subscriber.with_writer(move || writer.clone()).finish());
    let store = FaultyStore::new(MemoryStore::new());
    let layer = IdempotencyLayer::ietf("shop", Idempotency::new(store.clone()))
        .scope(|_| Some("canary-scope".to_owned()))
        .max_response_body(30)
        .build()
        .unwrap();
    let mut says = log.clone();
    let service = layer.layer(tower::service_fn(move |request: http::Request<_>| {
        let body: RequestBody<Full<Bytes>> = request.into_body();
        writeln!(says, "{body:?}").unwrap();
        async move {
            let body = body.collect().await.unwrap().to_bytes();
            match body.as_ref() {
                b"canary-body fails" => Err("canary-error"),
                b"canary-body is long" => Ok(http::Response::new(Full::from("canary-response".repeat(3)))),
                _ => Ok(http::Response::new(Full::from("canary-response"))),
            }
        }
    }));
    store.next(Step::Complete, [Fault::LOST_REPLY, Fault::LOST_REQUEST]);
    let mut says = log.clone();
    let mut statuses = Vec::new();
    for (key, body) in [
        ("canary-key", "canary-body"),
        ("canary-key", "canary-body"),
        ("canary-key", "canary-body"),
        ("canary-key", "canary-body is another"),
        ("canary-key-2", "canary-body fails"),
        ("canary-key-3", "canary-body is long"),
        ("canary-key-3", "canary-body is long"),
        ("canary key 4", "canary-body"),
        ("canary-key-5", "canary-body"),
    ] {
        if key == "canary-key-5" {
            store.always(Step::Claim, Fault::FailBefore(StoreErrorKind::Unavailable));
        }
        let response = service.clone().oneshot(request(key, body)).await.unwrap();
        statuses.push(response.status().as_u16());
        writeln!(says, "{response:?}\n{service:?}").unwrap();
        if !response.status().is_success() {
            let problem = response.into_body().collect().await.unwrap().to_bytes();
            says.write_all(&problem).unwrap();
        }
    }
    assert_eq!(statuses, [200, 200, 200, 422, 500, 200, 500, 400, 503]);
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(log.contains("mismatch") && log.contains("DEBUG"), "it sees what is said");
    assert_eq!(log.lines().find(|line| line.contains("canary")), None);
}
