//! Tests what the layer offers to axum: the key as an argument of handlers, layers of single routes, nested routers.

use std::time::Duration;

use axum::{
    Json, Router,
    extract::{Path, Request},
    response::Response,
    routing::post,
};
use http::{HeaderName, Method, StatusCode};
use idempotent_runtime::{
    Error, Idempotency,
    tower::{IdempotencyKey, IdempotencyLayer, OrNotBegun},
};

use crate::support::{Backend, Client, Preset, Runs, charge, created, serve};

idempotent_tests::on_every_store!(
    the_key_is_an_argument,
    who_has_no_key_is_told_whose_mistake_it_is,
    routes_have_layers_of_their_own,
    nested_routers_share_a_layer,
    nested_routers_with_names,
    an_error_is_a_problem_and_never_kept,
    what_an_extractor_rejects_does_not_burn_the_key,
    what_no_route_matches_does_not_burn_the_key,
);

fn keyed(key: &str) -> [(&'static str, &[u8]); 1] {
    [("idempotency-key", key.as_bytes())]
}

async fn required(key: IdempotencyKey) -> Response {
    created(key.as_str().to_owned())
}

async fn optional(key: Option<IdempotencyKey>) -> Response {
    created(key.map_or("none".to_owned(), |key| key.as_str().to_owned()))
}

async fn the_key_is_an_argument(backend: Backend) {
    let layer = IdempotencyLayer::ietf("shop", Idempotency::new(backend.caller().await.store))
        .unscoped()
        .optional()
        .build()
        .unwrap();
    let router = Router::new().route("/required", post(required)).route("/optional", post(optional).get(optional));
    let client = Client::of(serve(router.clone().layer(layer)).await);
    for (path, key) in [("/required", r#""a\"b""#), ("/optional", r#""c\"d""#)] {
        for replayed in [false, true] {
            let reply = client.send(Method::POST, path, &keyed(key), "").await;
            assert_eq!((reply.status, reply.is_replay()), (StatusCode::CREATED, replayed));
            assert_eq!(reply.body, key.trim_matches('"').replace('\\', ""), "without quotation marks and escapes");
        }
    }
    for method in [Method::POST, Method::GET] {
        assert_eq!(client.send(method, "/optional", &[], "").await.body, "none");
    }
    assert_eq!(client.send(Method::GET, "/optional", &keyed("ignored"), "").await.body, "none");
    let bare = Client::of(serve(router).await);
    assert_eq!(bare.send(Method::POST, "/optional", &keyed("k"), "").await.body, "none");
}

async fn who_has_no_key_is_told_whose_mistake_it_is(backend: Backend) {
    let store = backend.caller().await.store;
    let presets: [Preset; 2] = [IdempotencyLayer::ietf, IdempotencyLayer::stripe_v1];
    for preset in presets {
        let choose = || preset("shop", Idempotency::new(store.clone())).unscoped();
        let (lets_pass, refuses) = (choose().optional().build().unwrap(), choose().required().build().unwrap());
        let router = Router::new()
            .route("/passed", post(required).get(required).layer(lets_pass))
            .route("/refused", post(required).layer(refuses))
            .route("/bare", post(required));
        let client = Client::of(serve(router).await);
        // The client's: the same answer, whoever gives it.
        let [passed, refused] =
            [client.send(Method::POST, "/passed", &[], "").await, client.send(Method::POST, "/refused", &[], "").await];
        assert_eq!((passed.status, &passed.body), (StatusCode::BAD_REQUEST, &refused.body));
        for header in ["content-type", "link", "stripe-should-retry"] {
            assert_eq!(passed.header(header), refused.header(header));
        }
        assert!(String::from_utf8_lossy(&passed.body).contains("idempotency-key"));
        // The service's.
        for (method, path) in [(Method::POST, "/bare"), (Method::GET, "/passed")] {
            let reply = client.send(method, path, &keyed("k"), "").await;
            assert_eq!(reply.status, StatusCode::INTERNAL_SERVER_ERROR);
            assert!(reply.body.starts_with(b"no idempotency layer"));
        }
    }
}

async fn routes_have_layers_of_their_own(backend: Backend) {
    let handle = Idempotency::new(backend.caller().await.store);
    let ietf = |name: &'static str| IdempotencyLayer::ietf(name, handle.clone()).unscoped();
    let layers = [
        ietf("shop").build().unwrap(),
        ietf("refunds").header(HeaderName::from_static("x-refund-key")).build().unwrap(),
        ietf("shop").optional().build().unwrap(),
    ];
    let runs = [const { Runs::default }; 3].map(|runs| runs());
    let mut router = Router::new();
    for ((path, layer), runs) in ["/charges", "/refunds", "/orders"].into_iter().zip(layers).zip(runs.clone()) {
        router = router.route(path, post(move |request: Request| charge(runs.begin(), request)).layer(layer));
    }
    let client = Client::of(serve(router).await);
    let send = async |path: &str, header: &str, key: &str| {
        client.send(Method::POST, path, &[(header, key.as_bytes())], "").await
    };
    for replayed in [false, true] {
        send("/charges", "idempotency-key", "k").await.assert_charge(1, replayed);
        send("/refunds", "x-refund-key", "k").await.assert_charge(1, replayed);
    }
    // Each has its own rules.
    send("/refunds", "idempotency-key", "k").await.assert_problem(400, "key-missing");
    client.send(Method::POST, "/orders", &[], "").await.assert_charge(1, false);
    // Layers of one name share their keys, and so nobody means two things with one.
    send("/orders", "idempotency-key", "k").await.assert_problem(422, "mismatch");
    assert_eq!(runs.each_ref().map(Runs::count), [1, 1, 1]);
}

/// Two routers with the same paths, nested in one, each with its layer inside.
async fn nested(runs: &Runs, layers: [IdempotencyLayer; 2]) -> Client {
    let [one, two] = layers.map(|layer| {
        let runs = runs.clone();
        Router::new().route("/charges", post(move |request: Request| charge(runs.begin(), request)).layer(layer))
    });
    let versions = Router::new().nest("/v1", one).nest("/v2", two);
    Client::of(serve(Router::new().nest("/api", versions)).await)
}

async fn nested_routers_share_a_layer(backend: Backend) {
    let layer =
        IdempotencyLayer::ietf("shop", Idempotency::new(backend.caller().await.store)).unscoped().build().unwrap();
    let runs = Runs::default();
    let client = nested(&runs, [layer.clone(), layer]).await;
    for replayed in [false, true] {
        client.send(Method::POST, "/api/v1/charges?a", &keyed("k"), "").await.assert_charge(1, replayed);
        for other in ["/api/v2/charges?a", "/api/v1/charges", "/api/v1/charges?b"] {
            client.send(Method::POST, other, &keyed("k"), "").await.assert_problem(422, "mismatch");
        }
    }
    client.send(Method::POST, "/api/v2/charges?a", &keyed("l"), "").await.assert_charge(2, false);
    assert_eq!(runs.count(), 2);
}

async fn nested_routers_with_names(backend: Backend) {
    let handle = Idempotency::new(backend.caller().await.store);
    let layer = |name| IdempotencyLayer::ietf(name, handle.clone()).unscoped().build().unwrap();
    let client = nested(&Runs::default(), [layer("api.v1"), layer("api.v2")]).await;
    for (path, run) in [("/api/v1/charges", 1), ("/api/v2/charges", 2)] {
        for replayed in [false, true] {
            client.send(Method::POST, path, &keyed("k"), "").await.assert_charge(run, replayed);
        }
    }
}

/// The handler returns the errors that an annotated function would return to it. A 409 that was kept would be replayed for a
/// day.
async fn an_error_is_a_problem_and_never_kept(backend: Backend) {
    let runs = Runs::default();
    let layer =
        IdempotencyLayer::stripe_v1("shop", Idempotency::new(backend.caller().await.store)).unscoped().build().unwrap();
    let handler = async |run: u64| match run {
        1 => Err(Error::in_flight(Duration::from_millis(1))),
        2 => Err(Error::mismatch([])),
        3 => Err(Error::NotInstalled),
        run => Ok(created(run.to_string())),
    };
    let counter = runs.clone();
    let router = Router::new().route("/", post(move || handler(counter.begin()))).layer(layer);
    let client = Client::of(serve(router).await);
    for (status, code, retry_after) in
        [(409, "in-flight", Some("1")), (422, "mismatch", None), (500, "not-installed", None)]
    {
        let reply = client.send(Method::POST, "/", &keyed("k"), "").await;
        reply.assert_problem(status, code);
        assert_eq!(reply.header("retry-after"), retry_after);
    }
    for replayed in [false, true] {
        let reply = client.send(Method::POST, "/", &keyed("k"), "").await;
        assert_eq!((&*reply.body, reply.is_replay()), (&b"4"[..], replayed));
    }
}

async fn what_an_extractor_rejects_does_not_burn_the_key(backend: Backend) {
    let handle = Idempotency::new(backend.caller().await.store);
    let layer = |name| IdempotencyLayer::ietf(name, handle.clone()).unscoped().build().unwrap();
    let marked = async |OrNotBegun(Path(to)): OrNotBegun<Path<u32>>,
                        OrNotBegun(Json(amount)): OrNotBegun<Json<u32>>| {
        created(format!("{amount} to {to}"))
    };
    let plain = async |Json(amount): Json<u32>| created(format!("{amount}"));
    let router = Router::new()
        .route("/marked/{to}", post(marked).layer(layer("marked")))
        .route("/plain", post(plain).layer(layer("plain")));
    let client = Client::of(serve(router).await);
    let send = async |path: &str, key: &str, body: &'static str| {
        let headers: [(&str, &[u8]); 2] = [("idempotency-key", key.as_bytes()), ("content-type", b"application/json")];
        client.send(Method::POST, path, &headers, body).await
    };
    for broken in ["{", "\"one\"", "-1", ""] {
        for _ in 0..2 {
            let rejected = send("/marked/7", "k", broken).await;
            assert!(rejected.status.is_client_error() && !rejected.is_replay(), "{rejected:?}");
        }
    }
    let rejected = send("/marked/x", "k", "1").await;
    assert_eq!((rejected.status, rejected.is_replay()), (StatusCode::BAD_REQUEST, false));
    for replayed in [false, true] {
        let reply = send("/marked/7", "k", "1").await;
        assert_eq!((reply.body.as_ref(), reply.is_replay()), (&b"1 to 7"[..], replayed));
    }
    // Without the mark, it is the key's response, as any other 4xx.
    for replayed in [false, true] {
        let rejected = send("/plain", "k", "{").await;
        assert!(rejected.status.is_client_error() && rejected.is_replay() == replayed, "{rejected:?}");
    }
    send("/plain", "k", "1").await.assert_problem(422, "mismatch");
}

async fn what_no_route_matches_does_not_burn_the_key(backend: Backend) {
    let store = backend.caller().await.store;
    let layer = |name| IdempotencyLayer::ietf(name, Idempotency::new(store.clone())).unscoped().build().unwrap();
    let routes = || Router::new().route("/charges", post(async || created("charged")));
    let by_route = Client::of(serve(routes().route_layer(layer("by-route"))).await);
    for (path, status, replayed) in [
        ("/chrages", StatusCode::NOT_FOUND, false),
        ("/charges", StatusCode::CREATED, false),
        ("/charges", StatusCode::CREATED, true),
    ] {
        let reply = by_route.send(Method::POST, path, &keyed("k"), "").await;
        assert_eq!((reply.status, reply.is_replay()), (status, replayed));
    }
    // Around the router, its 404 is a response like any other.
    let around = Client::of(serve(routes().layer(layer("around"))).await);
    assert_eq!(around.send(Method::POST, "/chrages", &keyed("k"), "").await.status, StatusCode::NOT_FOUND);
    around.send(Method::POST, "/charges", &keyed("k"), "").await.assert_problem(422, "mismatch");
}
