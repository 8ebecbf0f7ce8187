//! Runs that end in another way than with a response, and requests that do not begin.

use std::{future::Future, pin::Pin, time::Duration};

use axum::{body::Body, extract::Request, response::Response};
use bytes::Bytes;
use http::{Method, StatusCode};
use idempotent_runtime::{
    Error, Execution, Idempotency, OnAbandoned, StoreErrorKind, step,
    testing::{Fault, Gate, Method as Step},
    tower::{IdempotencyLayer, IdempotencyLayerBuilder},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::{Backend, Client, Pieces, Reply, Runs, Server, charge, created, serve_hyper, streaming};

idempotent_tests::on_every_store!(
    a21_panic_of_the_handler,
    a21_a_step_beside_a_panic_is_not_run_again,
    a21_error_of_the_inner_service,
    a21_abandoned_can_be_refused,
    a22_handler_runs_on_without_its_client,
    a22_handler_runs_on_within_a_limit,
    a22_body_is_copied_without_its_client,
    a22_body_is_copied_within_a_limit,
    a22_shutdown_waits_for_handlers,
    a23_store_down,
    a23_store_refuses,
    a23_request_body_over_the_limit,
);

const LONG: Duration = Duration::from_secs(600);

/// Sends until the answer is another than that a request is in flight.
async fn settled(client: &Client, key: &str) -> Reply {
    loop {
        let reply = client.post(key, "amount=1").await;
        if reply.status != StatusCode::CONFLICT || reply.json()["code"] != "in-flight" {
            return reply;
        }
    }
}

/// Panics in its first run.
async fn panics_once(run: u64, request: Request) -> Response {
    assert!(run > 1, "a panic of the handler, as the test wants it");
    assert_eq!(Execution::current().expect("an execution").attempt(), 2);
    charge(run, request).await
}

async fn a21_panic_of_the_handler(backend: Backend) {
    let server = Server::start(&backend, |builder| builder.lease(LONG), panics_once).await;
    let client = server.client();
    client.post("k", "amount=1").await.assert_problem(500, "handler-failed");
    // It is on record by now: no lease has to pass.
    client.post("k", "amount=2").await.assert_problem(422, "mismatch");
    client.post("k", "amount=1").await.assert_charge(2, false);
    client.post("k", "amount=1").await.assert_charge(2, true);
    assert_eq!(server.runs.count(), 2);
}

/// The step is on its way to the store when the handler panics: the end of the run waits for it.
async fn a21_a_step_beside_a_panic_is_not_run_again(backend: Backend) {
    let (gate, charges) = (Gate::new(), Runs::default());
    let (reached, counted) = (gate.clone(), charges.clone());
    let handler = move |run, request| {
        let (reached, counted) = (reached.clone(), counted.clone());
        async move {
            let step = step("charge", async { Ok::<_, Error>(counted.begin()) });
            if run > 1 {
                assert_eq!(step.await.expect("a recorded step"), 1);
                return charge(run, request).await;
            }
            tokio::select! {
                _ = step => unreachable!("the gate is closed"),
                () = reached.reached(1) => panic!("a panic beside a step, as the test wants it"),
            }
        }
    };
    let server = Server::start(&backend, |builder| builder.lease(LONG), handler).await;
    server.store.next(Step::Append, [Fault::HoldBefore(gate.clone())]);
    let client = server.client();
    let opened = async {
        gate.reached(1).await;
        // Long enough for an end that does not wait.
        let ended = tokio::time::timeout(Duration::from_millis(200), server.store.called(Step::Suspend, 1)).await;
        assert!(ended.is_err(), "the run ended before its step was recorded");
        gate.open();
    };
    let (reply, ()) = tokio::join!(client.post("k", "amount=1"), opened);
    reply.assert_problem(500, "handler-failed");
    client.post("k", "amount=1").await.assert_charge(2, false);
    assert_eq!(charges.count(), 1);
}

async fn a21_error_of_the_inner_service(backend: Backend) {
    let store = backend.caller().await.store;
    let layer = IdempotencyLayer::ietf("shop", Idempotency::new(store)).unscoped().lease(LONG);
    let layer = layer.build().unwrap();
    let runs = Runs::default();
    let counted = runs.clone();
    let service = tower::service_fn(move |_: http::Request<_>| {
        let run = counted.begin();
        async move { if run == 1 { Err("the backend is gone") } else { Ok(created(format!("charge {run}"))) } }
    });
    let address = serve_hyper(tower::Layer::layer(&layer, service)).await;
    let client = Client::of(address);
    client.post("k", "amount=1").await.assert_problem(500, "handler-failed");
    assert_eq!(client.post("k", "amount=1").await.body, "charge 2");
    assert!(client.post("k", "amount=1").await.is_replay());
    assert_eq!(runs.count(), 2);
}

async fn a21_abandoned_can_be_refused(backend: Backend) {
    let refuse = |builder: IdempotencyLayerBuilder| builder.abandoned(OnAbandoned::Refuse);
    let server = Server::start(&backend, refuse, panics_once).await;
    let client = server.client();
    client.post("k", "amount=1").await.assert_problem(500, "handler-failed");
    for _ in 0..2 {
        let refused = client.post("k", "amount=1").await;
        refused.assert_problem(409, "abandoned");
        assert!(!refused.headers.contains_key("retry-after"), "asking again is of no use");
    }
    assert_eq!(server.runs.count(), 1);
}

/// Sends a request over a connection of its own, which is closed when it is dropped.
async fn connect(server: &Server) -> TcpStream {
    let mut socket = TcpStream::connect(server.address).await.unwrap();
    let request = "POST /charges HTTP/1.1\r\nhost: x\r\nidempotency-key: k\r\ncontent-length: 8\r\n\r\namount=1";
    socket.write_all(request.as_bytes()).await.unwrap();
    socket
}

type Boxed = Pin<Box<dyn Future<Output = Response> + Send>>;

/// A handler that waits at the gate.
fn gated(gate: &Gate) -> impl Fn(u64, Request) -> Boxed + Clone + Send + Sync + 'static {
    let gate = gate.clone();
    move |run, request| {
        let gate = gate.clone();
        Box::pin(async move {
            gate.pass().await;
            charge(run, request).await
        })
    }
}

async fn a22_handler_runs_on_without_its_client(backend: Backend) {
    let gate = Gate::new();
    let server = Server::start(&backend, |builder| builder.lease(LONG), gated(&gate)).await;
    let socket = connect(&server).await;
    gate.reached(1).await;
    drop(socket);
    let client = server.client();
    // The server notices while it answers others.
    for _ in 0..10 {
        client.post("k", "amount=1").await.assert_problem(409, "in-flight");
    }
    gate.open();
    settled(&client, "k").await.assert_charge(1, true);
    assert_eq!(server.runs.count(), 1);
}

async fn a22_handler_runs_on_within_a_limit(backend: Backend) {
    let gate = Gate::new();
    let settings = |builder: IdempotencyLayerBuilder| builder.lease(LONG).run_on(Duration::from_millis(100));
    let server = Server::start(&backend, settings, gated(&gate)).await;
    let (socket, client) = (connect(&server).await, server.client());
    gate.reached(1).await;
    // As long as the client is there, it may take its time.
    tokio::time::sleep(Duration::from_millis(300)).await;
    client.post("k", "amount=1").await.assert_problem(409, "in-flight");
    drop(socket);
    let second = tokio::spawn(async move { settled(&client, "k").await });
    gate.reached(2).await;
    gate.open();
    second.await.unwrap().assert_charge(2, false);
}

async fn a22_body_is_copied_without_its_client(backend: Backend) {
    let (server, sender) = streaming(&backend, |builder| builder).await;
    let client = server.client();
    let (_, _, body) = client.begin(Method::POST, "/charges", &[("idempotency-key", b"k")], "amount=1").await;
    sender.send(Ok(Bytes::from_static(b"one "))).unwrap();
    drop(body);
    for piece in ["two ", "three"] {
        client.post("k", "amount=1").await.assert_problem(409, "in-flight");
        sender.send(Ok(Bytes::from(piece))).expect("the handler's body is there");
    }
    drop(sender);
    let repeat = settled(&client, "k").await;
    assert!(repeat.is_replay());
    assert_eq!(repeat.body, "one two three");
    assert_eq!(server.runs.count(), 1);
}

async fn a22_body_is_copied_within_a_limit(backend: Backend) {
    let settings = |builder: IdempotencyLayerBuilder| builder.run_on(Duration::from_millis(100));
    let (server, sender) = streaming(&backend, settings).await;
    let client = server.client();
    let (_, _, body) = client.begin(Method::POST, "/charges", &[("idempotency-key", b"k")], "amount=1").await;
    // As long as the client is there, it may take its time.
    tokio::time::sleep(Duration::from_millis(300)).await;
    client.post("k", "amount=1").await.assert_problem(409, "in-flight");
    drop(body);
    settled(&client, "k").await.assert_problem(500, "result-not-kept");
    assert!(sender.is_closed(), "the handler's body is gone");
    assert_eq!(server.runs.count(), 1);
}

async fn a22_shutdown_waits_for_handlers(backend: Backend) {
    let gate = Gate::new();
    let server = Server::start(&backend, |builder| builder, gated(&gate)).await;
    server.layer.idle().await;
    let socket = connect(&server).await;
    gate.reached(1).await;
    drop(socket);
    let layer = server.layer.clone();
    let mut idle = tokio::spawn(async move { layer.idle().await });
    let early = tokio::time::timeout(Duration::from_millis(100), &mut idle).await;
    assert!(early.is_err(), "a handler runs");
    gate.open();
    idle.await.unwrap();
    assert_eq!(server.store.calls(Step::Complete), 1, "and it is on record");
    server.client().post("k", "amount=1").await.assert_charge(1, true);
}

async fn a23_store_down(backend: Backend) {
    let server = Server::start(&backend, |builder| builder, charge).await;
    let client = server.client();
    for step in [Step::Claim, Step::Peek] {
        server.store.always(step, Fault::FailBefore(StoreErrorKind::Unavailable));
    }
    let down = client.post("k", "amount=1").await;
    down.assert_problem(503, "store");
    assert!(down.header("retry-after").unwrap().parse::<u64>().unwrap() > 0);
    assert_eq!(server.runs.count(), 0);
    server.store.heal();
    client.post("k", "amount=1").await.assert_charge(1, false);
}

/// Until somebody changes a setting: a client that tried again would try for ever.
async fn a23_store_refuses(backend: Backend) {
    let server = Server::start(&backend, |builder| builder, charge).await;
    let client = server.client();
    for step in [Step::Claim, Step::Peek] {
        server.store.always(step, Fault::FailBefore(StoreErrorKind::Refused));
    }
    let refused = client.post("k", "amount=1").await;
    refused.assert_problem(500, "store");
    assert_eq!(refused.header("retry-after"), None);
    assert_eq!(server.runs.count(), 0);
    server.store.heal();
    client.post("k", "amount=1").await.assert_charge(1, false);
}

async fn a23_request_body_over_the_limit(backend: Backend) {
    let server = Server::start(&backend, |builder| builder.max_request_body(100), charge).await;
    let client = server.client();
    let unsized_ = |len: usize| Body::new(Pieces((0..len).map(|_| Bytes::from_static(b"x")).collect()));
    client.post("k", vec![b'x'; 101]).await.assert_problem(413, "body-too-large");
    client.post("k", unsized_(101)).await.assert_problem(413, "body-too-large");
    assert_eq!((server.runs.count(), server.store_calls()), (0, 0));
    client.post("k", vec![b'x'; 100]).await.assert_charge(1, false);
    client.post("k", unsized_(100)).await.assert_charge(1, true);
    // What says that it is too large is not waited for.
    let mut socket = TcpStream::connect(server.address).await.unwrap();
    let head = "POST /charges HTTP/1.1\r\nhost: x\r\nidempotency-key: k\r\ncontent-length: 101\r\n\r\n";
    socket.write_all(head.as_bytes()).await.unwrap();
    let mut status = [0; 12];
    socket.read_exact(&mut status).await.unwrap();
    assert_eq!(&status, b"HTTP/1.1 413");
    // Without a key there is no need for one.
    let open = Server::start(&backend, |builder| builder.max_request_body(100).optional(), charge).await;
    open.client().send(Method::POST, "/charges", &[], vec![b'x'; 101]).await.assert_charge(1, false);
}
