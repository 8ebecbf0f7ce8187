//! Makes so many calls on one path of the embedded store, to have their instructions counted by `tests/instructions`.
//!
//! `instructions PATH CALLS`; without arguments, the names of the paths.
#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a benchmark may fail")]

mod support;

use std::{convert::Infallible, hint::black_box, task::Poll};

use axum::body::Body;
use http::{Request, Response, StatusCode};
use idempotent_runtime::{Error, Idempotency, idempotent, store::memory::MemoryStore, tower::IdempotencyLayer};
use support::{Order, Receipt, ready};
use tower::{Layer, Service, service_fn};

const PATHS: [&str; 8] = [
    "attribute-hit",
    "attribute-miss",
    "call-hit",
    "call-miss",
    "local-cache-hit",
    "local-cache-miss",
    "http-hit",
    "http-miss",
];

/// The number of keys that hits use in turn.
const KEYS: usize = 100;

fn main() {
    let words: Vec<_> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let [path, calls] = words.as_slice() else {
        println!("{}", PATHS.join("\n"));
        return;
    };
    let calls = calls.parse().unwrap();
    let (kind, is_hit) = path.rsplit_once('-').map(|(kind, end)| (kind, end == "hit")).unwrap();
    // The same keys are made for each number of calls, so that only the calls differ.
    let keys: Vec<_> = (0..10_000).map(|number| format!("order-{number:08}")).collect();
    let (answered, asked): (&[String], Box<dyn Iterator<Item = &String>>) = if is_hit {
        (&keys[..KEYS], Box::new(keys[..KEYS].iter().cycle().take(calls)))
    } else {
        (&[], Box::new(keys.iter().take(calls)))
    };
    match kind {
        "attribute" => functions(&Idempotency::memory(), answered, asked),
        "local-cache" => {
            functions(&Idempotency::builder().local_cache(64 << 20).build(MemoryStore::new()), answered, asked);
        }
        "call" => builders(answered, asked),
        "http" => requests(answered, asked),
        _ => panic!("{path} is none of {PATHS:?}"),
    }
}

#[idempotent(key = order_id, store = store, skip(store))]
async fn charge(store: &Idempotency, order_id: &str, order: &Order) -> Result<Receipt, Error> {
    Ok(Receipt::of(order_id, order))
}

fn functions<'a>(idempotency: &Idempotency, answered: &'a [String], asked: impl Iterator<Item = &'a String>) {
    let order = Order::of_size(100);
    for key in answered.iter().chain(asked) {
        black_box(ready(charge(idempotency, key, &order)).unwrap());
    }
}

fn builders<'a>(answered: &'a [String], asked: impl Iterator<Item = &'a String>) {
    let (idempotency, order) = (Idempotency::memory(), Order::of_size(100));
    for key in answered.iter().chain(asked) {
        let call = idempotency.call("payments.charge").key(key.as_str()).arguments(&order);
        black_box(ready(call.run(async { Ok::<_, Error>(Receipt::of(key, &order)) })).unwrap());
    }
}

fn requests<'a>(answered: &'a [String], asked: impl Iterator<Item = &'a String>) {
    let layer = IdempotencyLayer::ietf("payments", Idempotency::memory()).unscoped().build().unwrap();
    let mut service = layer.layer(service_fn(async |_: Request<_>| {
        let mut response = Response::new(Body::from("{\"id\":\"ch_1\",\"amount\":4200}"));
        *response.status_mut() = StatusCode::CREATED;
        Ok::<_, Infallible>(response)
    }));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        for key in answered.iter().chain(asked) {
            let request = Request::post("/charges")
                .header("idempotency-key", key)
                .header("content-type", "application/json")
                .body(Body::from("{\"amount\":4200,\"currency\":\"eur\"}"))
                .unwrap();
            std::future::poll_fn(|cx| {
                let ready: Poll<Result<(), Infallible>> = service.poll_ready(cx);
                ready
            })
            .await
            .unwrap();
            let response = service.call(request).await.unwrap();
            assert_eq!(response.status(), StatusCode::CREATED);
            black_box(axum::body::to_bytes(Body::new(response.into_body()), usize::MAX).await.unwrap());
        }
    });
}
