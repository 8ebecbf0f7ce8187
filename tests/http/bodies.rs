//! Responses: what of them is kept, and that the first client gets all of them.

use std::time::Duration;

use axum::{body::Body, extract::Request, response::Response};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use http_body_util::{BodyExt, Full};
use idempotent_runtime::testing::{Fault, Gate, Method as Step};
use tokio::sync::mpsc;

use crate::support::{Backend, Channel, Pieces, Server, Sized, streaming};

idempotent_tests::on_every_store!(
    a19_bodies_replay_byte_exact,
    a19_headers_of_a_status_replay,
    a19_trailers_replay,
    a20_what_is_too_large_to_keep_is_not_run_again,
    a20_what_is_streamed_reaches_the_client_as_it_comes,
    a20_the_last_piece_comes_when_it_is_on_record,
    a20_a_stream_too_large_to_keep,
    a20_a_stream_that_fails,
);

async fn a19_bodies_replay_byte_exact(backend: Backend) {
    let respond = |run: u64, request: Request| async move {
        let all_bytes: Vec<u8> = (0..=255).collect();
        let (status, body) = match request.uri().path() {
            "/binary" => (200, Body::from(all_bytes)),
            "/empty" => (200, Body::empty()),
            "/none" => (204, Body::empty()),
            "/pieces" => (200, Body::new(Pieces([&b"one "[..], b"", b"\xff two"].map(Bytes::from).into()))),
            _ => (404, Body::empty()),
        };
        Response::builder()
            .status(status)
            .header("content-type", "application/x-test; a=\"b\"")
            .header("location", "/charges/1")
            .header("etag", "\"v1\"")
            .header("link", "</a>; rel=next")
            .header("link", "</b>; rel=prev")
            .header("set-cookie", "session=secret")
            .header("x-own", "not asked for")
            .header("x-run", run.to_string())
            .header("date", "Thu, 01 Jan 1970 00:00:00 GMT")
            .header("keep-alive", "timeout=5")
            .body(body)
            .unwrap()
    };
    let server = Server::start(&backend, |builder| builder, respond).await;
    let client = server.client();
    for (runs, path) in (1..).zip(["/binary", "/empty", "/none", "/pieces"]) {
        let send = async || client.send(Method::POST, path, &[("idempotency-key", path.as_bytes())], "").await;
        let (first, repeat) = (send().await, send().await);
        assert!(!first.is_replay() && repeat.is_replay(), "{path}");
        assert_eq!(server.runs.count(), runs, "{path}");
        assert_eq!((first.status, &first.body), (repeat.status, &repeat.body), "{path}");
        for name in ["content-type", "location", "etag"] {
            assert!(first.headers.contains_key(name));
            assert_eq!(first.header(name), repeat.header(name), "{path} {name}");
        }
        let links: Vec<_> = repeat.headers.get_all("link").iter().collect();
        assert_eq!(links, ["</a>; rel=next", "</b>; rel=prev"]);
        assert_eq!(first.header("set-cookie"), Some("session=secret"));
        for name in ["set-cookie", "x-own", "x-run", "keep-alive"] {
            assert!(!repeat.headers.contains_key(name), "{path} {name}");
        }
        assert_ne!(repeat.header("date"), Some("Thu, 01 Jan 1970 00:00:00 GMT"));
    }
}

async fn a19_headers_of_a_status_replay(backend: Backend) {
    const ALL: [&str; 16] = [
        "retry-after",
        "www-authenticate",
        "content-location",
        "location",
        "allow",
        "accept",
        "accept-encoding",
        "accept-patch",
        "accept-post",
        "preference-applied",
        "content-range",
        "content-digest",
        "repr-digest",
        "expires",
        "content-security-policy",
        "x-content-type-options",
    ];
    let respond = |_, request: Request| async move {
        let mut response = Response::builder().status(&request.uri().path()[1..]);
        for name in ALL {
            response = response.header(name, "120");
        }
        for name in ["set-cookie", "proxy-authenticate", "connection", "authentication-info", "age"] {
            response = response.header(name, "close");
        }
        response.body(Body::from("body")).unwrap()
    };
    let server = Server::start(&backend, |builder| builder, respond).await;
    let client = server.client();
    for status in ["/200", "/202", "/401", "/403", "/405", "/413", "/415", "/416"] {
        let send = async || client.send(Method::POST, status, &[("idempotency-key", status.as_bytes())], "").await;
        let (first, repeat) = (send().await, send().await);
        assert!(!first.is_replay() && repeat.is_replay(), "{status}");
        for name in ALL {
            let is_kept = name != "www-authenticate" || status == "/401";
            assert_eq!(repeat.header(name), is_kept.then_some("120"), "{status} {name}");
        }
        for name in ["set-cookie", "proxy-authenticate", "connection", "authentication-info", "age"] {
            assert!(!repeat.headers.contains_key(name), "{status} {name}");
        }
    }
}

async fn a19_trailers_replay(backend: Backend) {
    let respond = |run: u64, _| async move {
        let trailers = HeaderMap::from_iter([
            (HeaderName::from_static("grpc-status"), HeaderValue::from(run)),
            (HeaderName::from_static("set-cookie"), HeaderValue::from_static("session=secret")),
        ]);
        Response::new(Body::new(Full::new(Bytes::from("body")).with_trailers(async move { Some(Ok(trailers)) })))
    };
    let server = Server::start(&backend, |builder| builder, respond).await;
    let client = server.client_of_http2();
    for replayed in [false, true] {
        let key: [(&str, &[u8]); 1] = [("idempotency-key", b"k")];
        let (_, headers, body) = client.begin(Method::POST, "/", &key, "").await;
        let body = body.collect().await.unwrap();
        assert_eq!(headers.contains_key("idempotent-replayed"), replayed);
        assert_eq!(body.trailers().unwrap()["grpc-status"], "1");
        assert_eq!(body.trailers().unwrap().contains_key("set-cookie"), !replayed);
        assert_eq!(body.to_bytes(), "body");
    }
}

async fn a20_what_is_too_large_to_keep_is_not_run_again(backend: Backend) {
    let respond = |_, request: Request| async move {
        let len = request.uri().path()[1..].parse().unwrap();
        Response::new(match request.uri().query() {
            None => Body::from(vec![b'x'; len]),
            Some(_) => Body::new(Pieces((0..len).map(|_| Bytes::from_static(b"x")).collect())),
        })
    };
    let server = Server::start(&backend, |builder| builder.max_response_body(100), respond).await;
    let client = server.client();
    for (runs, path) in (1..).zip(["/100", "/101", "/100?pieces", "/101?pieces", "/100000"]) {
        let len = path[1..].split('?').next().unwrap().parse().unwrap();
        let send = async || client.send(Method::POST, path, &[("idempotency-key", path.as_bytes())], "").await;
        let first = send().await;
        assert_eq!((first.status, first.body.len()), (StatusCode::OK, len), "{path}");
        for _ in 0..2 {
            let repeat = send().await;
            if len <= 100 {
                assert_eq!((repeat.is_replay(), &repeat.body), (true, &first.body), "{path}");
            } else {
                repeat.assert_problem(500, "result-not-kept");
            }
        }
        assert_eq!(server.runs.count(), runs, "{path}");
    }
}

async fn a20_what_is_streamed_reaches_the_client_as_it_comes(backend: Backend) {
    let (server, sender) = streaming(&backend, |builder| builder).await;
    let client = server.client();
    let key: [(&str, &[u8]); 1] = [("idempotency-key", b"k")];
    let (status, _, mut body) = client.begin(Method::POST, "/charges", &key, "").await;
    assert_eq!(status, StatusCode::OK);
    for piece in ["one ", "two ", "three"] {
        sender.send(Ok(Bytes::from(piece))).unwrap();
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), piece);
        client.post("k", "").await.assert_problem(409, "in-flight");
    }
    drop(sender);
    assert!(body.frame().await.is_none());
    // Its end has come when it is on record.
    let repeat = client.post("k", "").await;
    assert!(repeat.is_replay());
    assert_eq!(repeat.body, "one two three");
    assert_eq!(server.runs.count(), 1);
}

async fn a20_the_last_piece_comes_when_it_is_on_record(backend: Backend) {
    // With a length: the client has all of it with the last piece, and need not wait for an end.
    let (sender, receiver) = mpsc::unbounded_channel();
    let receiver = std::sync::Arc::new(std::sync::Mutex::new(Some(receiver)));
    let respond = move |_, _| {
        let body = receiver.lock().unwrap().take().expect("one run");
        async move { Response::new(Body::new(Sized { body: Channel(body), left: 6 })) }
    };
    let server = Server::start(&backend, |builder| builder, respond).await;
    let client = server.client();
    let (_, headers, mut body) = client.begin(Method::POST, "/charges", &[("idempotency-key", b"k")], "").await;
    assert_eq!(headers["content-length"], "6");
    let gate = Gate::new();
    server.store.next(Step::Complete, [Fault::HoldBefore(gate.clone())]);
    sender.send(Ok(Bytes::from("one"))).unwrap();
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "one");
    sender.send(Ok(Bytes::from("two"))).unwrap();
    gate.reached(1).await;
    let early = tokio::time::timeout(Duration::from_millis(100), body.frame()).await;
    assert!(early.is_err(), "it is not on record");
    gate.open();
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "two");
    assert_eq!(client.post("k", "").await.body, "onetwo");
}

async fn a20_a_stream_too_large_to_keep(backend: Backend) {
    let (server, sender) = streaming(&backend, |builder| builder.max_response_body(10)).await;
    let client = server.client();
    let (_, _, body) = client.begin(Method::POST, "/charges", &[("idempotency-key", b"k")], "").await;
    for _ in 0..100 {
        sender.send(Ok(Bytes::from_static(b"1234567"))).unwrap();
    }
    // It is known before the end.
    let refused = async || loop {
        let repeat = client.post("k", "").await;
        match repeat.status {
            StatusCode::CONFLICT => repeat.assert_problem(409, "in-flight"),
            _ => break repeat.assert_problem(500, "result-not-kept"),
        }
    };
    refused().await;
    drop(sender);
    assert_eq!(body.collect().await.unwrap().to_bytes(), "1234567".repeat(100));
    refused().await;
    assert_eq!(server.runs.count(), 1);
}

async fn a20_a_stream_that_fails(backend: Backend) {
    let (server, sender) = streaming(&backend, |builder| builder).await;
    let client = server.client();
    let (_, _, body) = client.begin(Method::POST, "/charges", &[("idempotency-key", b"k")], "").await;
    sender.send(Ok(Bytes::from_static(b"half"))).unwrap();
    sender.send(Err("the disk is gone")).unwrap();
    assert!(body.collect().await.is_err(), "what is cut off does not look whole");
    let repeat = loop {
        let repeat = client.post("k", "").await;
        if repeat.status != StatusCode::CONFLICT {
            break repeat;
        }
    };
    repeat.assert_problem(500, "result-not-kept");
    assert_eq!(server.runs.count(), 1);
}
