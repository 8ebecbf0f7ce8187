//! Many clients at once, with duplicates: HTTP/1.1 and HTTP/2, with a length and in pieces.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};

use axum::{body::Body, extract::Request, middleware};
use bytes::Bytes;
use http::{StatusCode, Version, header::CONTENT_LENGTH};
use idempotent_runtime::tower::IdempotencyLayer;
use rand::{RngExt as _, SeedableRng, rngs::StdRng};
use tokio::task::JoinSet;

use crate::support::{Backend, Client, Pieces, Server, charge};

idempotent_tests::on_every_store!(duplicates_run_once_under_load);

const KEYS: usize = 60;
/// Connections of each way to send, and how many answers each of them wants.
const CLIENTS: usize = 4;
const ANSWERS: usize = 60;

/// A way to send: the version, and whether there is a length.
type Way = (Version, bool);

const WAYS: [Way; 4] =
    [(Version::HTTP_11, true), (Version::HTTP_11, false), (Version::HTTP_2, true), (Version::HTTP_2, false)];

fn body(has_length: bool) -> Body {
    if has_length {
        Body::from("amount=4200")
    } else {
        // None of them empty: the HTTP/2 server allows a connection a hundred of those.
        Body::new(Pieces(["amount", "=42", "00"].map(Bytes::from).into()))
    }
}

/// The answers to a client that asks for one key after the other, some of them again and again.
async fn ask(client: Client, (_, has_length): Way, seed: u64) -> Vec<(usize, Bytes, bool)> {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut answers = Vec::with_capacity(ANSWERS);
    while answers.len() < ANSWERS {
        // The lower ones are asked for more often, so that clients meet.
        let highest = rng.random_range(0..KEYS);
        let key = rng.random_range(0..=highest);
        loop {
            let reply = client.post(&format!("key-{key}"), body(has_length)).await;
            if reply.status == StatusCode::CREATED {
                let is_replay = reply.is_replay();
                answers.push((key, reply.body, is_replay));
                break;
            }
            reply.assert_problem(409, "in-flight");
        }
    }
    answers
}

async fn duplicates_run_once_under_load(backend: Backend) {
    let handler = |run: u64, request: Request| async move {
        // Some take their time.
        for _ in 0..run % 7 {
            tokio::task::yield_now().await;
        }
        charge(run, request).await
    };
    // What arrives, counted before the layer.
    let arrived: Arc<Mutex<BTreeMap<String, usize>>> = Arc::default();
    let counted = Arc::clone(&arrived);
    let count = move |request: Request, next: middleware::Next| {
        let way = (request.version(), request.headers().contains_key(CONTENT_LENGTH));
        *counted.lock().unwrap().entry(format!("{way:?}")).or_default() += 1;
        next.run(request)
    };
    let around = |router: axum::Router| router.layer(middleware::from_fn(count));
    let server = Server::of(&backend, IdempotencyLayer::ietf, |choose| choose.unscoped(), handler, around).await;

    let seed: u64 = rand::random();
    println!("seed {seed}");
    let mut clients = JoinSet::new();
    for (n, way) in (0..).zip(WAYS.into_iter().cycle().take(WAYS.len() * CLIENTS)) {
        let client = if way.0 == Version::HTTP_2 { server.client_of_http2() } else { server.client() };
        clients.spawn(ask(client, way, seed.wrapping_add(n)));
    }
    let answers = clients.join_all().await.concat();

    assert_eq!(answers.len(), WAYS.len() * CLIENTS * ANSWERS);
    let arrived = arrived.lock().unwrap();
    assert_eq!(arrived.len(), WAYS.len());
    for way in WAYS {
        assert!(arrived[&format!("{way:?}")] >= CLIENTS * ANSWERS, "{arrived:?}");
    }
    let asked: BTreeSet<_> = answers.iter().map(|(key, ..)| key).collect();
    for key in &asked {
        let mine: Vec<_> = answers.iter().filter(|(of, ..)| of == *key).collect();
        assert!(mine.iter().all(|(_, body, _)| *body == mine[0].1), "{key}");
        assert_eq!(mine.iter().filter(|(.., is_replay)| !is_replay).count(), 1, "{key}");
    }
    assert_eq!(server.runs.count(), asked.len() as u64);
}
