//! Measures the time that the HTTP layer adds to a bare axum handler, on the embedded store: for a request whose response
//! is replayed, and for one that runs the handler. Against the layer of another crate: `tests/peers`.
//!
//! `cargo bench -p idempotent-runtime --bench http_layer --features tower`
#![expect(clippy::unwrap_used, clippy::disallowed_methods, reason = "a benchmark")]

mod support;

use std::time::Instant;

use axum::{Router, body::Body, routing::post};
use http::{Request, StatusCode};
use idempotent_runtime::{Idempotency, tower::IdempotencyLayer};
use support::{Bar, head, medians, row};
use tower::{Service, ServiceExt};

const ROUNDS: usize = 101;
const RUNS: u32 = 500;

fn router() -> Router {
    Router::new().route("/charges", post(async || (StatusCode::CREATED, "{\"id\":\"ch_1\",\"amount\":4200}")))
}

fn request(key: &str) -> Request<Body> {
    Request::post("/charges")
        .header("idempotency-key", key)
        .header("content-type", "application/json")
        .body(Body::from("{\"amount\":4200,\"currency\":\"eur\"}"))
        .unwrap()
}

/// Nanoseconds a request, the reading of responses included. In a task, as a server's connection is: what `block_on` itself
/// polls is woken through the kernel.
fn nanoseconds(runtime: &tokio::runtime::Runtime, router: &Router, key: impl Fn(u32) -> String) -> f64 {
    let mut router = router.clone();
    let requests: Vec<_> = (0..RUNS).map(|run| request(&key(run))).collect();
    let connection = async move {
        let start = Instant::now();
        for request in requests {
            let response = router.as_service().ready().await.unwrap().call(request).await.unwrap();
            assert_eq!(response.status(), StatusCode::CREATED);
            axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
        }
        start.elapsed().as_secs_f64() * 1e9 / f64::from(RUNS)
    };
    runtime.block_on(runtime.spawn(connection)).unwrap()
}

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let layer = IdempotencyLayer::ietf("bench", Idempotency::memory()).unscoped().build().unwrap();
    let (bare, hit) = (router(), router().layer(layer.clone()));
    let miss = router().layer(layer);
    let mut round = 0;
    let [bare, hit, miss] = medians(
        ROUNDS,
        [
            &mut || nanoseconds(&runtime, &bare, |_| "hit".to_owned()),
            &mut || nanoseconds(&runtime, &hit, |_| "hit".to_owned()),
            &mut || {
                round += 1;
                nanoseconds(&runtime, &miss, |run| format!("{round}-{run}"))
            },
        ],
    );
    head();
    row("hit", "ns", hit, "bare handler", bare, Bar::None);
    row("miss", "ns", miss, "bare handler", bare, Bar::None);
}
