//! Which keys there are, and what is none.

use axum::extract::Request;
use http::Method;
use idempotent_runtime::{
    testing::Method as Step,
    tower::{IdempotencyKey, IdempotencyLayerBuilder, KeyFormat},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::{Backend, Server, charge, created};

idempotent_tests::on_every_store!(
    a06_required_key_missing,
    a10_strict_keys_are_quoted_strings,
    a11_lenient_keys,
    a12_one_key_of_bounded_length,
    a16_requests_that_take_no_key,
);

async fn a06_required_key_missing(backend: Backend) {
    let server = Server::start(&backend, |builder| builder, charge).await;
    let missing = server.client().send(Method::POST, "/charges", &[], "amount=1").await;
    missing.assert_problem(400, "key-missing");
    let link = missing.header("link").expect("a link to documentation");
    assert!(link.starts_with("<https://") && link.ends_with(">; rel=\"describedby\""), "{link}");
    assert_eq!((server.runs.count(), server.store_calls()), (0, 0));
}

async fn a10_strict_keys_are_quoted_strings(backend: Backend) {
    let strict = |builder: IdempotencyLayerBuilder| builder.key_format(KeyFormat::Strict);
    let server = Server::start(&backend, strict, charge).await;
    let client = server.client();
    let malformed: [&[u8]; 9] = [
        b"token",
        b"17",
        br#""bad\escape""#,
        br#""unterminated"#,
        "\"ü\"".as_bytes(),
        b"\"\xff\"",
        b"\"a\tb\"",
        b":aGk=:",
        b"\"k\"; ",
    ];
    for key in malformed {
        let reply = client.send(Method::POST, "/charges", &[("idempotency-key", key)], "amount=1").await;
        reply.assert_problem(400, "key-malformed");
    }
    // No client of good manners sends a control byte, and no good server takes it.
    let mut socket = TcpStream::connect(server.address).await.unwrap();
    let request = "POST /charges HTTP/1.1\r\nhost: x\r\nidempotency-key: \"a\u{1}b\"\r\ncontent-length: 0\r\n\r\n";
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut status = [0; 12];
    socket.read_exact(&mut status).await.unwrap();
    assert_eq!(&status, b"HTTP/1.1 400");
    assert_eq!((server.runs.count(), server.store_calls()), (0, 0));

    client.post("\"token\"", "amount=1").await.assert_charge(1, false);
    client.post(" \"token\";p=1", "amount=1").await.assert_charge(1, true);
}

async fn a11_lenient_keys(backend: Backend) {
    let show = |_, request: Request| async move {
        let key: &IdempotencyKey = request.extensions().get().expect("a key");
        created(key.as_str().to_owned())
    };
    let server = Server::start(&backend, |builder| builder, show).await;
    let client = server.client();
    // Each line is one key, as its handler sees it, however it is sent.
    let keys: [(&str, &[&str]); 4] = [
        ("k", &["k", "\"k\"", "\"k\";p=1", " k ", "\"k\";p;q=\"x\""]),
        ("a\"b", &[r#""a\"b""#]),
        ("a\\b", &[r#""a\\b""#, r"a\b"]),
        ("a b", &["\"a b\""]),
    ];
    for (runs, (key, sent)) in (1..).zip(keys) {
        for (repeat, sent) in sent.iter().enumerate() {
            let reply = client.post(sent, "amount=1").await;
            assert_eq!((reply.body.as_ref(), reply.is_replay()), (key.as_bytes(), repeat > 0), "{sent}");
        }
        assert_eq!(server.runs.count(), runs);
    }
}

async fn a12_one_key_of_bounded_length(backend: Backend) {
    let uuid = |builder: IdempotencyLayerBuilder| builder.valid_key(|key| key.len() >= 3);
    let server = Server::start(&backend, uuid, charge).await;
    let client = server.client();
    let long = "k".repeat(256);
    let quoted = format!("\"{long}\"");
    for key in ["\"abc\", \"def\"", "abc, def", "", "\"\"", "   ", &long, &quoted, "ab"] {
        client.post(key, "amount=1").await.assert_problem(400, "key-malformed");
    }
    let twice: [(&str, &[u8]); 2] = [("idempotency-key", b"abc"), ("idempotency-key", b"abc")];
    client.send(Method::POST, "/charges", &twice, "amount=1").await.assert_problem(400, "key-malformed");
    assert_eq!((server.runs.count(), server.store_calls()), (0, 0));

    client.post(&long[1..], "amount=1").await.assert_charge(1, false);
    // As long as can be, each character of it written as three, and still within the limit for record keys.
    client.post(&format!("\"{}\"", "~".repeat(255)), "amount=1").await.assert_charge(2, false);
}

async fn a16_requests_that_take_no_key(backend: Backend) {
    let server = Server::start(&backend, IdempotencyLayerBuilder::optional, charge).await;
    let client = server.client();
    for run in 1..=2 {
        client.send(Method::POST, "/charges", &[], "amount=1").await.assert_charge(run, false);
    }
    for method in [Method::GET, Method::HEAD, Method::OPTIONS, Method::PUT, Method::DELETE] {
        for _ in 0..2 {
            let reply = client.send(method.clone(), "/charges", &[("idempotency-key", b"k")], "").await;
            assert!(reply.status.is_success() && !reply.is_replay(), "{method}");
        }
    }
    assert_eq!((server.runs.count(), server.store_calls()), (12, 0));

    let opted_in = |builder: IdempotencyLayerBuilder| builder.methods([Method::PUT, Method::DELETE]);
    let server = Server::start(&backend, opted_in, charge).await;
    let client = server.client();
    for (runs, method) in (1..).zip([Method::PUT, Method::DELETE]) {
        for replayed in [false, true] {
            let key = [("idempotency-key", method.as_str().as_bytes())];
            client.send(method.clone(), "/charges", &key, "").await.assert_charge(runs, replayed);
        }
    }
    assert_eq!(server.store.calls(Step::Complete), 2);
}
