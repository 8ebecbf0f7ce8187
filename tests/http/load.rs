//! Many clients at once, with duplicates.

use axum::{body::Body, extract::Request};
use bytes::Bytes;
use http::StatusCode;
use tokio::task::JoinSet;

use crate::support::{Backend, Client, Pieces, Server, charge};

crate::lines!(duplicates_run_once_under_load);

const KEYS: usize = 50;
const DUPLICATES: usize = 8;

/// The n-th way to send the same.
fn body(way: usize) -> Body {
    if way.is_multiple_of(2) {
        Body::from("amount=4200")
    } else {
        // None of them empty: the HTTP/2 server allows a connection a hundred of those.
        Body::new(Pieces(["amount", "=42", "00"].map(Bytes::from).into()))
    }
}

async fn until_answered(client: Client, key: String, way: usize) -> (String, Bytes, bool) {
    loop {
        let reply = client.post(&key, body(way)).await;
        if reply.status == StatusCode::CREATED {
            let is_replay = reply.is_replay();
            return (key, reply.body, is_replay);
        }
        reply.assert_problem(409, "in-flight");
    }
}

async fn duplicates_run_once_under_load(backend: Backend) {
    let handler = |run: u64, request: Request| async move {
        // Some take their time.
        for _ in 0..run % 7 {
            tokio::task::yield_now().await;
        }
        charge(run, request).await
    };
    let server = Server::start(&backend, |builder| builder, handler).await;
    let clients = [server.client(), server.client_of_http2()];
    let mut calls = JoinSet::new();
    for duplicate in 0..DUPLICATES {
        for key in 0..KEYS {
            let client = clients[(duplicate / 2) % 2].clone();
            calls.spawn(until_answered(client, format!("key-{key}"), duplicate));
        }
    }
    let answers = calls.join_all().await;
    for key in 0..KEYS {
        let key = format!("key-{key}");
        let mine: Vec<_> = answers.iter().filter(|(of, ..)| *of == key).collect();
        assert_eq!(mine.len(), DUPLICATES);
        assert!(mine.iter().all(|(_, body, _)| *body == mine[0].1), "{key}");
        assert_eq!(mine.iter().filter(|(.., is_replay)| !is_replay).count(), 1, "{key}");
    }
    assert_eq!(server.runs.count(), KEYS as u64);
}
