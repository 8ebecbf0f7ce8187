//! gRPC behind the layer: a server and clients of tonic.

mod bank;

use std::future::ready;

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, uri::PathAndQuery};
use http_body_util::{BodyExt, Full};
use idempotent_runtime::{
    OnAbandoned, StoreErrorKind,
    testing::{Fault, Gate, Method as Step},
    tower::IdempotencyLayerBuilder,
};
use tonic::{
    Code, Request, Response, Status,
    metadata::{MetadataMap, MetadataValue},
};

use self::bank::{Answer, PACES, PAY, Pace, Raw, Server};
use crate::support::{Backend, Client, Server as HttpServer, charge};

idempotent_tests::on_every_store!(
    a24_a_call_is_replayed_with_its_metadata,
    a24_answers_are_kept_and_failures_are_not,
    a24_a_stream_is_replayed,
    a24_a_stream_that_fails_half_way,
    a24_a_stream_that_breaks_off,
    a24_a_stream_too_large_to_keep,
    a24_refusals_are_trailers_only,
    a24_what_is_not_begun_is_not_kept,
    a24_a_client_does_not_choose_the_rule,
    a24_of_two_statuses_that_differ_the_failure_counts,
);

fn text<'m>(metadata: &'m MetadataMap, name: &str) -> Option<&'m str> {
    metadata.get(name).map(|value| value.to_str().expect("text"))
}

fn messages(texts: &[&'static str]) -> Vec<Result<Bytes, Status>> {
    texts.iter().map(|text| Ok(Bytes::from(*text))).collect()
}

async fn a24_a_call_is_replayed_with_its_metadata(backend: Backend) {
    let answer = |run: u64| {
        let mut response = Response::new(Bytes::from(format!("receipt {run}")));
        let metadata = response.metadata_mut();
        metadata.insert("x-receipt", run.into());
        metadata.insert_bin("proof-bin", MetadataValue::from_bytes(&[0, 0xff]));
        metadata.insert("set-cookie", "session=secret".parse().unwrap());
        Answer::Unary(Ok(response))
    };
    let server = Server::start(&backend, |builder| builder, answer).await;
    for replayed in [false, true, true] {
        let mut grpc = tonic::client::Grpc::new(server.channel.clone());
        grpc.ready().await.unwrap();
        let mut request = Request::new(Bytes::from("amount=1"));
        request.metadata_mut().insert("idempotency-key", "k".parse().unwrap());
        let response = grpc.unary(request, PathAndQuery::from_static(PAY), Raw).await.unwrap();
        assert_eq!(response.get_ref(), "receipt 1");
        let metadata = response.metadata();
        assert_eq!((text(metadata, "x-receipt"), metadata.contains_key("set-cookie")), (Some("1"), !replayed));
        assert_eq!(metadata.get_bin("proof-bin").unwrap().to_bytes().unwrap(), Bytes::from_static(&[0, 0xff]));
        assert_eq!(text(metadata, "grpc-status"), Some("0"), "the trailers");
        assert_eq!(metadata.contains_key("idempotent-replayed"), replayed);
    }
    assert_eq!(server.runs.count(), 1);
}

async fn a24_answers_are_kept_and_failures_are_not(backend: Backend) {
    for code in (0..=16).map(Code::from) {
        let answer = move |run: u64| {
            let metadata = MetadataMap::from_headers([("x-run".parse().unwrap(), run.into())].into_iter().collect());
            let status = Status::with_details_and_metadata(
                code,
                format!("für 100% {run}"),
                Bytes::from_static(b"why\0"),
                metadata,
            );
            Answer::Unary(if code == Code::Ok { Ok(Response::new(Bytes::from("1"))) } else { Err(status) })
        };
        let server = Server::start(&backend, |builder| builder, answer).await;
        let is_kept = ![
            Code::Cancelled,
            Code::Unknown,
            Code::DeadlineExceeded,
            Code::ResourceExhausted,
            Code::Aborted,
            Code::Internal,
            Code::Unavailable,
        ]
        .contains(&code);
        let key = format!("{code:?}");
        for run in 1..=3 {
            let told = server.pay(&key).await;
            assert_eq!((told.code(), told.is_replay()), (code, is_kept && run > 1), "{told:?}");
            let Err(status) = told.end else { continue };
            let run = if is_kept { 1 } else { run };
            assert_eq!((status.message(), status.details()), (&*format!("für 100% {run}"), &b"why\0"[..]));
            assert_eq!(text(status.metadata(), "x-run"), Some(&*run.to_string()));
        }
        assert_eq!(server.runs.count(), if is_kept { 1 } else { 3 }, "{code:?}");
    }
}

async fn a24_a_stream_is_replayed(backend: Backend) {
    for pace in PACES {
        let server =
            Server::start(&backend, |builder| builder, move |_| Answer::Stream(messages(&["one", "", "three"]), pace))
                .await;
        let key = format!("{pace:?}");
        for replayed in [false, true] {
            let told = server.pay(&key).await;
            assert_eq!((told.code(), told.is_replay()), (Code::Ok, replayed));
            assert_eq!(told.messages, ["one", "", "three"]);
        }
        assert_eq!(server.runs.count(), 1);
    }
}

async fn a24_a_stream_that_fails_half_way(backend: Backend) {
    for pace in PACES {
        let answer = move |run: u64| {
            let end = if run == 1 { Status::unavailable("later") } else { Status::failed_precondition("no funds") };
            Answer::Stream([messages(&["one"]), vec![Err(end)]].concat(), pace)
        };
        let server = Server::start(&backend, |builder| builder, answer).await;
        let key = format!("{pace:?}");
        for (code, replayed) in
            [(Code::Unavailable, false), (Code::FailedPrecondition, false), (Code::FailedPrecondition, true)]
        {
            let told = server.pay(&key).await;
            assert_eq!((told.code(), told.is_replay()), (code, replayed), "{told:?}");
            assert_eq!(told.messages, ["one"]);
        }
        assert_eq!(server.runs.count(), 2);
    }
}

async fn a24_a_stream_that_breaks_off(backend: Backend) {
    // A message of three bytes, as it is on the wire.
    let message = || Ok(Bytes::from_static(&[0, 0, 0, 0, 3, b'o', b'n', b'e']));
    for (name, pieces) in [("fails", vec![message(), Err("the disk is gone")]), ("ends", vec![message()])] {
        for pace in PACES {
            let broken = pieces.clone();
            let answer = move |run| match run {
                1 => Answer::Body(broken.clone(), pace),
                _ => Answer::Stream(messages(&["two"]), pace),
            };
            let refuse = |builder: IdempotencyLayerBuilder| builder.abandoned(OnAbandoned::Refuse);
            let (server, refuses) = (
                Server::start(&backend, |builder| builder, answer.clone()).await,
                Server::start(&backend, refuse, answer).await,
            );
            let key = format!("{name}-{pace:?}");
            let told = server.pay(&key).await;
            assert!(told.end.is_err(), "{told:?}");
            for replayed in [false, true] {
                let told = server.settled(&key).await;
                assert_eq!((told.code(), told.is_replay()), (Code::Ok, replayed), "{told:?}");
                assert_eq!(told.messages, ["two"]);
            }
            // Such a run has no outcome, as one that panicked.
            let key = format!("{key}-refused");
            assert!(refuses.pay(&key).await.end.is_err());
            let told = refuses.settled(&key).await;
            assert_eq!(told.code(), Code::FailedPrecondition);
            assert!(told.message().starts_with("abandoned: "), "{told:?}");
            assert_eq!((server.runs.count(), refuses.runs.count()), (2, 1));
        }
    }
}

async fn a24_a_stream_too_large_to_keep(backend: Backend) {
    let settings = |builder: IdempotencyLayerBuilder| builder.max_response_body(20);
    for pace in PACES {
        let answer = move |run: u64| {
            let end = if run == 1 { vec![Err(Status::unavailable("later"))] } else { Vec::new() };
            Answer::Stream([messages(&["a message of more than 20 bytes", "and another"]), end].concat(), pace)
        };
        let server = Server::start(&backend, settings, answer).await;
        let key = format!("{pace:?}");
        let told = server.pay(&key).await;
        assert_eq!((told.code(), told.messages.len()), (Code::Unavailable, 2));
        let told = server.settled(&key).await;
        assert_eq!((told.code(), told.messages.len()), (Code::Ok, 2), "{told:?}");
        for _ in 0..2 {
            let told = server.settled(&key).await;
            assert_eq!(told.code(), Code::Internal, "{told:?}");
            assert!(told.message().starts_with("result-not-kept: "));
        }
        assert_eq!(server.runs.count(), 2);
    }
    // The client leaves before the status: the call was cut off.
    let long = || (0..10_000).map(|_| Ok(Bytes::from(vec![b'x'; 10_000]))).collect();
    let answer = move |run| Answer::Stream(if run == 1 { long() } else { messages(&["short"]) }, Pace::AtOnce);
    let server = Server::start(&backend, settings, answer).await;
    drop(server.begin(&[("idempotency-key", "gone")], "amount=1").await.unwrap());
    let told = server.settled("gone").await;
    assert_eq!((told.code(), told.messages), (Code::Ok, vec![Bytes::from("short")]));
}

async fn a24_refusals_are_trailers_only(backend: Backend) {
    let gate = Gate::new();
    let held = gate.clone();
    let answer = move |run| if run == 1 { Answer::Wait(held.clone()) } else { Answer::Panic };
    let server = Server::start(&backend, |builder| builder.max_request_body(20), answer).await;
    let first = {
        let server = server.clone();
        tokio::spawn(async move { server.pay("k").await })
    };
    gate.reached(1).await;
    let refused = async |metadata: &[(&'static str, &str)], body, code, says: &str| {
        let told = server.send(metadata, body).await;
        assert_eq!(told.code(), code, "{told:?}");
        assert!(told.message().starts_with(&format!("{says}: ")) && told.messages.is_empty(), "{told:?}");
        told
    };
    let key = |key| [("idempotency-key", key)];
    refused(&[], "", Code::InvalidArgument, "key-missing").await;
    refused(&key("a, b"), "", Code::InvalidArgument, "key-malformed").await;
    refused(&[("idempotency-key", "k"), ("stranger", "1")], "", Code::PermissionDenied, "no-scope").await;
    refused(&key("k"), "a message of more than 20 bytes", Code::ResourceExhausted, "body-too-large").await;
    refused(&key("k"), "amount=2", Code::FailedPrecondition, "mismatch").await;
    let in_flight = refused(&key("k"), "amount=1", Code::Unavailable, "in-flight").await;
    assert_eq!(text(&in_flight.metadata, "grpc-retry-pushback-ms"), Some("1000"));
    refused(&key("panics"), "", Code::Unknown, "handler-failed").await;

    // On the wire.
    let client = Client::http2(server.address);
    let headers: [(&str, &[u8]); 2] = [("content-type", b"application/grpc+x"), ("te", b"trailers")];
    let reply = client.send(Method::POST, PAY, &headers, "").await;
    assert_eq!((reply.status, reply.body.len()), (StatusCode::OK, 0));
    assert_eq!((reply.header("content-type"), reply.header("grpc-status")), (Some("application/grpc+x"), Some("3")));
    let json = client.send(Method::POST, PAY, &[("content-type", b"application/json")], "").await;
    json.assert_problem(400, "key-missing");

    gate.open();
    assert_eq!(first.await.unwrap().messages, ["done"]);
    for step in [Step::Claim, Step::Peek] {
        server.store.always(step, Fault::FailBefore(StoreErrorKind::Unavailable));
    }
    let down = refused(&key("down"), "", Code::Unavailable, "store").await;
    assert_eq!(text(&down.metadata, "grpc-retry-pushback-ms"), Some("5000"));
}

async fn a24_what_is_not_begun_is_not_kept(backend: Backend) {
    let answer = |run| if run == 1 { Answer::NotBegun } else { Answer::Unary(Ok(Response::new(Bytes::from("paid")))) };
    let server = Server::start(&backend, |builder| builder, answer).await;
    assert_eq!(server.send(&[("idempotency-key", "k")], "amuont=1").await.code(), Code::InvalidArgument);
    for replayed in [false, true] {
        let told = server.pay("k").await;
        assert_eq!((told.code(), told.is_replay()), (Code::Ok, replayed), "{told:?}");
    }
}

/// A handler that knows nothing of gRPC, and a client that says it does: the response has no `grpc-status`, and is kept.
async fn a24_a_client_does_not_choose_the_rule(backend: Backend) {
    let server = HttpServer::start(&backend, |builder| builder, charge).await;
    let headers: [(&str, &[u8]); 2] = [("idempotency-key", b"k"), ("content-type", b"application/grpc")];
    for replayed in [false, true] {
        server.client().send(Method::POST, "/charges", &headers, "amount=1").await.assert_charge(1, replayed);
    }
}

/// Clients differ in which status they believe, so a call whose statuses differ is one that failed for some of them.
async fn a24_of_two_statuses_that_differ_the_failure_counts(backend: Backend) {
    let answer = |run, _| async move {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static(if run == 1 { "14" } else { "0" }));
        let body = Full::new(Bytes::from_static(b"paid")).with_trailers(ready(Some(Ok(trailers))));
        let head = http::Response::builder().header("content-type", "application/grpc").header("grpc-status", "0");
        head.body(Body::new(body)).unwrap()
    };
    let server = HttpServer::start(&backend, |builder| builder, answer).await;
    for runs in [1, 2, 2] {
        server.client_of_http2().send(Method::POST, "/charges", &[("idempotency-key", b"k")], "amount=1").await;
        assert_eq!(server.runs.count(), runs);
    }
}
