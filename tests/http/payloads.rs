//! What of a request is compared, and what is recorded.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use axum::{Router, extract::Request};
use http::{Method, StatusCode};
use idempotent_runtime::{
    Idempotency,
    tower::{IdempotencyLayer, IdempotencyLayerBuilder, RequestFingerprint},
};

use crate::support::{Backend, Client, Runs, Server, charge, serve};

idempotent_tests::on_every_store!(
    a18_json_numbers_are_compared_by_value,
    a18_multipart_is_compared_by_parts,
    a_record_has_the_id_of_its_request,
    requests_are_recorded_without_their_headers,
);

async fn a18_json_numbers_are_compared_by_value(backend: Backend) {
    let json = |builder: IdempotencyLayerBuilder| builder.fingerprint(RequestFingerprint::json());
    let (by_value, by_bytes) =
        (Server::start(&backend, json, charge).await, Server::start(&backend, |builder| builder, charge).await);
    let headers = |key: &'static str| [("idempotency-key", key.as_bytes()), ("content-type", &b"application/json"[..])];
    let post = async |server: &Server, key, number: &str| {
        server.client().send(Method::POST, "/charges", &headers(key), format!("{{\"amount\":[{number}]}}")).await
    };
    let numbers: [(&str, &str, &[&str], &[&str]); 4] = [
        ("one", "1", &["1.0", "1e0", "10E-1"], &["-1", "1.0000000000000000001", "10"]),
        ("hundred", "1e2", &["100", "100.0", "1E+2"], &["1e3", "1e-2"]),
        // Floats and integers of 64 bits have one value for these.
        (
            "large",
            "18446744073709551617",
            &["18446744073709551617.0"],
            &["18446744073709551616", "18446744073709551618"],
        ),
        ("small", "0.1", &["0.10", "1e-1"], &["0.1000000000000000055", "1e-400"]),
    ];
    for (run, (key, number, same, others)) in (1..).zip(numbers) {
        post(&by_value, key, number).await.assert_charge(run, false);
        for same in same {
            post(&by_value, key, same).await.assert_charge(run, true);
        }
        for other in others {
            post(&by_value, key, other).await.assert_problem(422, "mismatch");
        }
    }
    post(&by_bytes, "bytes", "1").await.assert_charge(1, false);
    post(&by_bytes, "bytes", "1.0").await.assert_problem(422, "mismatch");
}

async fn a18_multipart_is_compared_by_parts(backend: Backend) {
    let form = |boundary: &str, amount: &str, file: &str, of_type: &str| {
        format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"amount\"\r\n\r\n{amount}\r\n--{boundary}\r\n\
             Content-Disposition: form-data; name=\"file\"; filename=\"{file}\"\r\nContent-Type: {of_type}\r\n\r\n\
             \u{0}\r\n--\r\n--{boundary}--\r\n"
        )
    };
    for (key, fingerprint) in [("bytes", RequestFingerprint::bytes()), ("json", RequestFingerprint::json())] {
        let settings = |builder: IdempotencyLayerBuilder| builder.fingerprint(fingerprint).max_request_body(1000);
        let server = Server::start(&backend, settings, charge).await;
        let post = async |boundary: &str, body: String| {
            let of_type = format!("multipart/form-data; boundary={boundary}");
            let headers = [("idempotency-key", key.as_bytes()), ("content-type", of_type.as_bytes())];
            server.client().send(Method::POST, "/charges", &headers, body).await
        };
        post("first", form("first", "1", "a.txt", "text/plain")).await.assert_charge(1, false);
        // A client draws a new boundary for each attempt.
        for boundary in ["second", "\"third\""] {
            let body = form(boundary.trim_matches('"'), "1", "a.txt", "text/plain");
            post(boundary, body).await.assert_charge(1, true);
        }
        for other in [
            form("x", "2", "a.txt", "text/plain"),
            form("x", "1", "b.txt", "text/plain"),
            form("x", "1", "a.txt", "text/html"),
            form("x", "1", "a.txt", "text/plain").replacen("amount", "total", 1),
            // Broken, and so compared as it is.
            form("x", "1", "a.txt", "text/plain") + "rest",
            form("y", "1", "a.txt", "text/plain"),
        ] {
            post("x", other).await.assert_problem(422, "mismatch");
        }
        let large = form("x", &"1".repeat(1000), "a.txt", "text/plain");
        post("x", large).await.assert_problem(413, "body-too-large");
        assert_eq!(server.runs.count(), 1);
    }
}

/// So that an operator finds the request that holds a key.
async fn a_record_has_the_id_of_its_request(backend: Backend) {
    let silent = Arc::new(AtomicBool::new(true));
    let says_nothing = Arc::clone(&silent);
    let said = move || (!says_nothing.load(Ordering::Relaxed)).then(|| "trace\0 4bf92f35".to_owned());
    let caller = backend.caller_with(Idempotency::builder().context(said)).await;
    let layer = IdempotencyLayer::ietf("traced", caller.idempotency.clone()).unscoped().build().unwrap();
    let runs = Runs::default();
    let router = Router::new().fallback(move |request: Request| charge(runs.begin(), request)).layer(layer);
    let client = Client::of(serve(router).await);
    let long = "r".repeat(300);
    for (key, id, is_silent, expected) in [
        ("id", &b"r-17"[..], true, Some("r-17")),
        ("long", long.as_bytes(), true, Some(&long[..256])),
        ("bytes", b"r-\xff", true, None),
        ("said", b"r-17", false, Some("trace\u{fffd} 4bf92f35")),
    ] {
        silent.store(is_silent, Ordering::Relaxed);
        for id in [id, b"another"] {
            let headers = [("idempotency-key", key.as_bytes()), ("x-request-id", id)];
            let reply = client.send(Method::POST, "/c", &headers, "").await;
            assert_eq!(reply.status, StatusCode::CREATED);
            let record = caller.idempotency.inspect("traced", key).await.unwrap().expect("a record");
            assert_eq!(record.context.as_deref(), expected, "{key}");
        }
    }
}

async fn requests_are_recorded_without_their_headers(backend: Backend) {
    let builder = Idempotency::builder().record_arguments(true).max_arguments_len(200);
    let caller = backend.caller_with(builder).await;
    let layer = IdempotencyLayer::ietf("audited", caller.idempotency.clone()).unscoped().build().unwrap();
    let runs = Runs::default();
    let router = Router::new().fallback(move |request: Request| charge(runs.begin(), request)).layer(layer);
    let client = Client::of(serve(router).await);
    let large = "x".repeat(1000);
    for (key, path, body, expected) in [
        (
            "json",
            "/c?a=1",
            "{\"amount\": 1.0}",
            r#"{"method":"POST","path":"/c","query":"a=1","body":{"json":{"amount": 1.0}}}"#,
        ),
        ("text", "/c", "amount=1\0", r#"{"method":"POST","path":"/c","body":{"text":"amount=1\u0000"}}"#),
        ("large", "/c", &large, r#"{"method":"POST","path":"/c","body":{"omitted_bytes":1000}}"#),
    ] {
        for _ in 0..2 {
            let headers: [(&str, &[u8]); 3] =
                [("idempotency-key", key.as_bytes()), ("authorization", b"canary"), ("cookie", b"canary")];
            let reply = client.send(Method::POST, path, &headers, body.to_owned()).await;
            assert_eq!(reply.status, StatusCode::CREATED);
            let record = caller.idempotency.inspect("audited", key).await.unwrap().expect("a record");
            assert_eq!(record.arguments.as_deref().map(String::from_utf8_lossy).as_deref(), Some(expected));
        }
    }
    client.post("large", "another").await.assert_problem(422, "mismatch");
    // Not even the path fits.
    let long = format!("/{}", "p".repeat(200));
    client.send(Method::POST, &long, &[("idempotency-key", b"long")], "").await.assert_problem(400, "arguments");
}
