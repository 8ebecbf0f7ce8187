//! The time that an HTTP layer adds to a bare axum handler, on an embedded store: ours, and that of `idempotent`.

use std::time::Instant;

use axum::{Router, body::Body, routing::post};
use http::{Request, StatusCode};
use idempotent_runtime::{Idempotency, tower::IdempotencyLayer};
use peer::{memory::MemoryStore, middleware::IdempotencyLayer as PeerLayer};
use tokio::runtime::Runtime;
use tower::{Service, ServiceExt};

use crate::{
    in_task, one_thread,
    support::{Bar, medians, row},
};

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
        .expect("a request")
}

/// Nanoseconds a request, the reading of responses included.
fn nanoseconds(runtime: &Runtime, router: &Router, key: impl Fn(u32) -> String) -> f64 {
    let mut router = router.clone();
    let requests: Vec<_> = (0..RUNS).map(|run| request(&key(run))).collect();
    in_task(runtime, async move {
        let start = Instant::now();
        for request in requests {
            let Ok(response) = router.as_service().ready().await.expect("ready").call(request).await;
            assert_eq!(response.status(), StatusCode::CREATED);
            axum::body::to_bytes(response.into_body(), usize::MAX).await.expect("a body");
        }
        start.elapsed().as_secs_f64() * 1e9 / f64::from(RUNS)
    })
}

pub(crate) fn hit_and_miss() {
    let runtime = one_thread();
    let _entered = runtime.enter();
    let layer = IdempotencyLayer::ietf("bench", Idempotency::memory()).unscoped().build().expect("a layer");
    let ours = router().layer(layer);
    let peer = router().layer(PeerLayer::new(MemoryStore::builder().try_build().expect("a store")));
    let bare = router();
    let (mut round, mut peer_round) = (0, 0);
    let [bare, hit, peer_hit, miss, peer_miss] = medians(
        ROUNDS,
        [
            &mut || nanoseconds(&runtime, &bare, |_| "hit".to_owned()),
            &mut || nanoseconds(&runtime, &ours, |_| "hit".to_owned()),
            &mut || nanoseconds(&runtime, &peer, |_| "hit".to_owned()),
            &mut || {
                round += 1;
                nanoseconds(&runtime, &ours, |run| format!("{round}-{run}"))
            },
            &mut || {
                peer_round += 1;
                nanoseconds(&runtime, &peer, |run| format!("{peer_round}-{run}"))
            },
        ],
    );
    row("HTTP hit, more than the bare handler", "ns", hit - bare, "idempotent", peer_hit - bare, Bar::AtMost(0.45));
    row("HTTP miss, more than the bare handler", "ns", miss - bare, "idempotent", peer_miss - bare, Bar::AtMost(0.5));
}
