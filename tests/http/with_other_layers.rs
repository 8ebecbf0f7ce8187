//! The layer in company: other layers on either side, and handlers that use the engine themselves.

use std::{collections::BTreeSet, time::Duration};

use axum::{Router, body::Body, extract::Request, response::Response};
use http::{Method, StatusCode, header::ACCEPT_ENCODING};
use hyper_util::rt::TokioIo;
use idempotent_runtime::{Error, Execution, Idempotency, idempotent, testing::Gate, tower::IdempotencyLayer};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tower_http::{
    compression::CompressionLayer, cors::CorsLayer, limit::RequestBodyLimitLayer, timeout::TimeoutLayer,
    trace::TraceLayer,
};
use tracing::Span;

use crate::support::{Backend, Client, Reply, Runs, Server, charge, created, serve};

idempotent_tests::on_every_store!(
    a14_two_services_on_one_store_do_not_answer_for_each_other,
    common_layers_outside,
    common_layers_inside,
    common_layers_in_every_order,
    a_preflight_needs_no_key,
    an_upgrade_is_the_handler_s,
    compressed_inside_is_replayed_compressed,
    a_timeout_outside_does_not_stop_the_handler,
    a_timeout_inside_is_a_response,
    the_handler_can_reach_its_execution,
    an_annotated_function_in_a_handler,
);

/// A key that one service passes on to another one, with the same tenant, path and body.
async fn a14_two_services_on_one_store_do_not_answer_for_each_other(backend: Backend) {
    let store = backend.caller().await.store;
    let service = async |name: &'static str| {
        let layer = IdempotencyLayer::ietf(name, Idempotency::new(store.clone()));
        let layer = layer.scope(|_| Some("acme".to_owned())).build().unwrap();
        let router = Router::new().fallback(move || async move { created(format!("{name} did it")) });
        Client::of(serve(router.layer(layer)).await)
    };
    let (billing, ledger) = (service("billing").await, service("ledger").await);
    for replayed in [false, true] {
        for (service, body) in [(&billing, "billing did it"), (&ledger, "ledger did it")] {
            let reply = service.post("k", "{}").await;
            assert_eq!((reply.body.as_ref(), reply.is_replay()), (body.as_bytes(), replayed));
        }
    }
}

/// A body that is worth compressing.
async fn long(run: u64, _: Request) -> Response {
    let mut response = created(format!("charge {run} ").repeat(100));
    response.headers_mut().insert("content-type", "text/plain".parse().unwrap());
    response
}

async fn post_gzip(client: &Client) -> Reply {
    let headers: [(&str, &[u8]); 3] =
        [("idempotency-key", b"k"), (ACCEPT_ENCODING.as_str(), b"gzip"), ("origin", b"https://shop.example")];
    client.send(Method::POST, "/charges", &headers, "amount=1").await
}

fn timeout_after(time: Duration) -> TimeoutLayer {
    TimeoutLayer::with_status_code(StatusCode::GATEWAY_TIMEOUT, time)
}

fn common(router: Router) -> Router {
    router
        .layer(TraceLayer::new_for_http())
        .layer(timeout_after(Duration::from_secs(30)))
        .layer(RequestBodyLimitLayer::new(4096))
        .layer(CompressionLayer::new())
        .layer(CorsLayer::permissive())
}

/// The first response and its repeats, but for what tells them apart.
async fn assert_common(client: &Client, runs: &Runs) {
    let first = post_gzip(client).await;
    assert_eq!((first.status, first.header("content-encoding")), (StatusCode::CREATED, Some("gzip")));
    assert_eq!(first.header("access-control-allow-origin"), Some("*"));
    assert!(!first.is_replay());
    for _ in 0..2 {
        let repeat = post_gzip(client).await;
        assert_eq!((repeat.status, &repeat.body), (first.status, &first.body));
        assert_eq!(repeat.header("content-encoding"), Some("gzip"));
        assert!(repeat.is_replay());
    }
    assert_eq!(runs.count(), 1);
}

async fn common_layers_outside(backend: Backend) {
    let server = Server::of(&backend, IdempotencyLayer::ietf, |choose| choose.unscoped(), long, common).await;
    assert_common(&server.client(), &server.runs).await;
    // Refused outside, before anything is asked.
    let calls = server.store_calls();
    let refused = server.client().post("large", vec![b'x'; 4097]).await;
    assert_eq!((refused.status, server.store_calls()), (StatusCode::PAYLOAD_TOO_LARGE, calls));
    // A replay is compressed for whom it is for.
    let plain = server.client().post("k", "amount=1").await;
    assert_eq!((plain.body, plain.headers.get("content-encoding")), ("charge 1 ".repeat(100).into(), None));
}

/// A router with the layer outside of others.
async fn inside(backend: &Backend, layers: fn(Router) -> Router) -> (Client, Runs) {
    let runs = Runs::default();
    let counted = runs.clone();
    let router = Router::new().fallback(move |request: Request| long(counted.begin(), request));
    let layer =
        IdempotencyLayer::ietf("shop", Idempotency::new(backend.caller().await.store)).unscoped().build().unwrap();
    (Client::of(serve(layers(router).layer(layer)).await), runs)
}

async fn common_layers_inside(backend: Backend) {
    let without_cors = |router: Router| {
        router.layer(TraceLayer::new_for_http()).layer(RequestBodyLimitLayer::new(4096)).layer(CompressionLayer::new())
    };
    let (client, runs) = inside(&backend, without_cors).await;
    let (first, repeat) = (post_gzip(&client).await, post_gzip(&client).await);
    assert_eq!((first.status, first.is_replay()), (StatusCode::CREATED, false));
    assert_eq!((repeat.status, repeat.is_replay(), &repeat.body), (first.status, true, &first.body));
    // What an inner layer refuses is a response of the service.
    for replayed in [false, true] {
        let refused = client.post("large", vec![b'x'; 4097]).await;
        assert_eq!((refused.status, refused.is_replay()), (StatusCode::PAYLOAD_TOO_LARGE, replayed));
    }
    assert_eq!(runs.count(), 1);
}

/// A browser asks whether it may send a key.
async fn a_preflight_needs_no_key(backend: Backend) {
    let outside = Server::of(&backend, IdempotencyLayer::ietf, |choose| choose.unscoped(), long, common).await;
    let (within, runs) = inside(&backend, |router| router.layer(CorsLayer::permissive())).await;
    let headers: [(&str, &[u8]); 3] = [
        ("origin", b"https://shop.example"),
        ("access-control-request-method", b"POST"),
        ("access-control-request-headers", b"idempotency-key"),
    ];
    for client in [outside.client(), within] {
        let reply = client.send(Method::OPTIONS, "/charges", &headers, "").await;
        assert_eq!((reply.status, reply.header("access-control-allow-headers")), (StatusCode::OK, Some("*")));
    }
    assert_eq!((outside.runs.count(), runs.count(), outside.store_calls()), (0, 0, 0));
}

/// The connection goes to another protocol, as that of a WebSocket does.
async fn an_upgrade_is_the_handler_s(backend: Backend) {
    let handler = |_, mut request: Request| async move {
        let upgrade = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            let mut connection = TokioIo::new(upgrade.await.expect("an upgrade"));
            connection.write_all(b"hello").await.expect("a connection");
        });
        let response = Response::builder().status(101).header("connection", "upgrade").header("upgrade", "greeting");
        response.body(Body::empty()).expect("a response")
    };
    let server = Server::start(&backend, |builder| builder, handler).await;
    let mut socket = TcpStream::connect(server.address).await.unwrap();
    let request = "GET /greeting HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: greeting\r\n\r\n";
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut reply = String::new();
    socket.read_to_string(&mut reply).await.unwrap();
    assert!(reply.starts_with("HTTP/1.1 101") && reply.ends_with("\r\n\r\nhello"), "{reply}");
}

/// The n-th of the orders of five layers, from the innermost to the outermost.
fn order(mut n: usize) -> Vec<&'static str> {
    let mut left = vec!["idempotency", "trace", "timeout", "compression", "cors"];
    let mut order = Vec::new();
    while !left.is_empty() {
        order.push(left.remove(n % left.len()));
        n /= left.len() + 1;
    }
    order
}

async fn common_layers_in_every_order(backend: Backend) {
    let store = backend.caller().await.store;
    let orders: BTreeSet<_> = (0..120).map(order).collect();
    assert_eq!(orders.len(), 120);
    for order in orders {
        let (runs, traced) = (Runs::default(), Runs::default());
        let counted = runs.clone();
        let mut router = Router::new().fallback(move |request: Request| long(counted.begin(), request));
        // A name for each order: all of them use one key.
        let builder = IdempotencyLayer::ietf(order.join(" "), Idempotency::new(store.clone())).unscoped();
        let idempotency = builder.build().unwrap();
        for layer in &order {
            let traced = traced.clone();
            router = match *layer {
                "idempotency" => router.layer(idempotency.clone()),
                "trace" => router.layer(TraceLayer::new_for_http().on_request(move |_: &Request, _: &Span| {
                    traced.begin();
                })),
                "timeout" => router.layer(timeout_after(Duration::from_secs(30))),
                "compression" => router.layer(CompressionLayer::new()),
                _ => router.layer(CorsLayer::permissive()),
            };
        }
        let is_outside = |name| {
            let at = |name| order.iter().position(|layer| *layer == name);
            at(name) > at("idempotency")
        };
        let client = Client::of(serve(router).await);
        let preflight: [(&str, &[u8]); 2] =
            [("origin", b"https://shop.example"), ("access-control-request-method", b"POST")];
        let preflight = client.send(Method::OPTIONS, "/charges", &preflight, "").await;
        assert_eq!((preflight.status, preflight.header("access-control-allow-origin")), (StatusCode::OK, Some("*")));
        let before = traced.count();

        let [first, repeat] = [post_gzip(&client).await, post_gzip(&client).await];
        assert_eq!((first.status, first.is_replay()), (StatusCode::CREATED, false), "{order:?}");
        assert_eq!((repeat.status, repeat.is_replay()), (StatusCode::CREATED, true), "{order:?}");
        assert_eq!(first.body, repeat.body, "{order:?}");
        for reply in [&first, &repeat] {
            assert_eq!(reply.header("content-encoding"), Some("gzip"), "{order:?}");
        }
        // Inside, they see what runs. What they say is said again if it is of the response, and kept: CORS is of the
        // client's page, and so belongs outside.
        assert_eq!(traced.count() - before, if is_outside("trace") { 2 } else { 1 }, "{order:?}");
        assert_eq!(first.header("access-control-allow-origin"), Some("*"), "{order:?}");
        assert_eq!(repeat.headers.contains_key("access-control-allow-origin"), is_outside("cors"), "{order:?}");
        assert_eq!(runs.count(), 1, "{order:?}");
    }
}

async fn compressed_inside_is_replayed_compressed(backend: Backend) {
    let (client, _) = inside(&backend, |router| router.layer(CompressionLayer::new())).await;
    let first = post_gzip(&client).await;
    let repeat = client.post("k", "amount=1").await;
    assert_eq!((repeat.header("content-encoding"), &repeat.body), (Some("gzip"), &first.body));
    assert_eq!(repeat.header("vary"), first.header("vary"), "caches are told on what it depends");
}

async fn a_timeout_outside_does_not_stop_the_handler(backend: Backend) {
    let gate = Gate::new();
    let held = gate.clone();
    let handler = move |run, request| {
        let held = held.clone();
        async move {
            held.pass().await;
            charge(run, request).await
        }
    };
    let outer = |router: Router| router.layer(timeout_after(Duration::from_millis(100)));
    let server = Server::of(&backend, IdempotencyLayer::ietf, |choose| choose.unscoped(), handler, outer).await;
    let client = server.client();
    assert_eq!(client.post("k", "amount=1").await.status, StatusCode::GATEWAY_TIMEOUT);
    client.post("k", "amount=1").await.assert_problem(409, "in-flight");
    gate.open();
    server.layer.idle().await;
    client.post("k", "amount=1").await.assert_charge(1, true);
    assert_eq!(server.runs.count(), 1);
}

async fn a_timeout_inside_is_a_response(backend: Backend) {
    let timeout = |router: Router| router.layer(timeout_after(Duration::from_millis(10)));
    let stuck = Router::new().fallback(std::future::pending::<StatusCode>);
    let layer =
        IdempotencyLayer::ietf("shop", Idempotency::new(backend.caller().await.store)).unscoped().build().unwrap();
    let client = Client::of(serve(timeout(stuck).layer(layer)).await);
    for _ in 0..2 {
        let reply = client.post("k", "amount=1").await;
        assert_eq!((reply.status, reply.is_replay()), (StatusCode::GATEWAY_TIMEOUT, false), "5xx are not kept");
    }
}

async fn the_handler_can_reach_its_execution(backend: Backend) {
    let handler = |_, _| async {
        created(match Execution::current() {
            Some(execution) => format!("{} {}", execution.attempt(), execution.child_key("bank")),
            None => String::new(),
        })
    };
    let server = Server::start(&backend, |builder| builder, handler).await;
    let client = server.client();
    let [one, other] = [client.post("k", "").await, client.post("l", "").await];
    assert!(one.body.starts_with(b"1 ") && one.body.len() == 2 + 64);
    assert_ne!(one.body, other.body);
    let outside = client.send(Method::GET, "/", &[], "").await;
    assert_eq!(outside.body, "", "a request without a key is nobody's run");
}

#[idempotent(key = order, name = "http.book", store = handle, skip(handle, runs))]
async fn book(handle: &Idempotency, runs: Runs, order: &str) -> Result<u64, Error> {
    Ok(runs.begin())
}

async fn an_annotated_function_in_a_handler(backend: Backend) {
    let (booked, handle) = (Runs::default(), Idempotency::new(backend.caller().await.store));
    let runs = booked.clone();
    let handler = move |_, request: Request| {
        let (handle, runs) = (handle.clone(), runs.clone());
        async move { created(book(&handle, runs, request.uri().path()).await.expect("booked").to_string()) }
    };
    let server = Server::start(&backend, |builder| builder, handler).await;
    let client = server.client();
    // Two requests of one order: two runs of the handler, one of the function.
    for (key, replayed) in [("k", false), ("l", false), ("k", true)] {
        let reply = client.post(key, "").await;
        assert_eq!((reply.body.as_ref(), reply.is_replay()), (&b"1"[..], replayed));
    }
    assert_eq!((server.runs.count(), booked.count()), (2, 1));
}
