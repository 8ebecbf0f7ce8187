//! Signatures, times and secrets.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{Router, body::Bytes, extract::State, http::HeaderMap, routing::post};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use idempotent_runtime::{
    Error, Idempotency, Store, idempotent,
    store::{postgres::PostgresStore, sqlite::SqliteStore},
    testing::{FaultyStore, Method},
    webhooks::Verifier,
};
use idempotent_tests::{database::Database, on_each_database, proxy::Proxy};
use sqlx::query;
use tokio::{net::TcpListener, time::sleep};

use crate::{
    deliveries::{
        Delivery, ENDPOINTS, GITHUB_SECRET, STANDARD_KEY, STRIPE_SECRET, event, github, hmac, now, standard,
        standard_secret, stripe,
    },
    program::{Program, command, post_to},
    tables::Tables as _,
};

on_each_database!(
    c01_a_bad_signature_is_refused_before_any_call_of_the_store,
    c01_the_store_is_not_called_for_a_bad_signature,
    c01_senders_on_svix_are_accepted,
    c02_five_minutes_are_tolerated,
    c02_retries_that_are_signed_anew_are_duplicates,
    c02_either_secret_passes_during_a_rotation,
    c03_ids_of_shopify,
);

/// Deliveries to each endpoint that nobody with the secret has sent.
fn bad() -> Vec<Delivery> {
    let mut bad = Vec::new();
    for endpoint in ENDPOINTS {
        let good = event(endpoint, "evt_bad", 1);
        for change in 0..6 {
            let mut other = good.clone();
            match change {
                0 => other.body.push(' '),
                1 => other.body.clear(),
                2 => "not JSON at all".clone_into(&mut other.body),
                3 => other.headers.clear(),
                4 => other.signature().clear(),
                _ => {
                    // The last digit, or the last but for the padding.
                    let signature = other.signature();
                    let last = signature.trim_end_matches('=').len() - 1;
                    let changed = if signature.as_bytes()[last - 1] == b'0' { "1" } else { "0" };
                    signature.replace_range(last - 1..last, changed);
                }
            }
            bad.push(other);
        }
    }
    bad.push(stripe(r#"{"id":"evt_bad"}"#, now(0), "whsec_of-another"));
    bad.push(github("{}", "evt_bad", "of another"));
    bad.push(standard(ENDPOINTS[2], "{}", "evt_bad", now(0), "of another"));
    bad
}

/// The program itself: on PostgreSQL, not a byte goes to the database; on SQLite, another has the lock that a claim needs.
async fn c01_a_bad_signature_is_refused_before_any_call_of_the_store(database: Database) {
    match &database {
        Database::Postgres(server) => {
            let proxy = Proxy::start(server.address()).await;
            let url = server.url_at(proxy.address());
            let program = Program::start(&url, &["--workers", "0"]).await;
            program.send(&event(ENDPOINTS[0], "evt_1", 1)).await.assert_done(false);
            let mut before = u64::MAX;
            while before != proxy.requests() {
                before = proxy.requests();
                sleep(Duration::from_millis(500)).await;
            }
            for delivery in bad() {
                program.send(&delivery).await.assert_refused(400);
            }
            // Signed for one endpoint, sent to another.
            let mut strayed = event(ENDPOINTS[0], "evt_bad", 1);
            strayed.endpoint = ENDPOINTS[1];
            program.send(&strayed).await.assert_refused(400);
            assert_eq!(proxy.requests(), before);
            // And it is seen when the store is called.
            program.send(&event(ENDPOINTS[0], "evt_2", 2)).await.assert_done(false);
            assert!(proxy.requests() > before);
        }
        Database::Sqlite(file) => {
            let program = Program::start(&database.url(), &["--workers", "0"]).await;
            program.send(&event(ENDPOINTS[0], "evt_1", 1)).await.assert_done(false);
            let mut locked = file.connection().await;
            query("BEGIN EXCLUSIVE").execute(&mut locked).await.unwrap();
            for delivery in bad() {
                program.send(&delivery).await.assert_refused(400);
            }
            // A call of the store would be waited for, and fail.
            let delivery = event(ENDPOINTS[0], "evt_2", 2);
            let called = program.send(&delivery).await;
            assert!([409, 503].contains(&called.status.as_u16()), "{called:?}");
            query("ROLLBACK").execute(&mut locked).await.unwrap();
            program.send(&delivery).await.assert_done(false);
        }
    }
    database.assert(2, 2).await;
}

/// A server of one endpoint, in this process, whose store counts its calls.
struct Counted {
    address: String,
    store: FaultyStore<Arc<dyn Store>>,
    runs: Arc<AtomicU64>,
}

#[derive(Clone)]
struct Endpoint {
    verifier: Arc<Verifier>,
    idempotency: Idempotency,
    runs: Arc<AtomicU64>,
}

impl Counted {
    async fn start(database: &Database, verifier: Verifier) -> Self {
        let store: Arc<dyn Store> = match database {
            Database::Postgres(server) => {
                let store = PostgresStore::connect(&server.url()).await.unwrap();
                store.migrate().await.unwrap();
                Arc::new(store)
            }
            Database::Sqlite(file) => {
                let store = SqliteStore::connect(&file.url()).await.unwrap();
                store.migrate().await.unwrap();
                Arc::new(store)
            }
        };
        let store = FaultyStore::new(store);
        let idempotency = Idempotency::new(store.clone());
        let runs = Arc::new(AtomicU64::new(0));
        let endpoint = Endpoint { verifier: Arc::new(verifier), idempotency, runs: Arc::clone(&runs) };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().route("/hooks", post(handle)).with_state(endpoint);
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { address, store, runs }
    }

    async fn send(&self, headers: &[(&'static str, String)], body: &str) -> u16 {
        let delivery = Delivery { endpoint: "/hooks", headers: headers.to_vec(), body: body.to_owned() };
        post_to(&self.address, &delivery).await.unwrap().status.as_u16()
    }

    fn store_calls(&self) -> usize {
        use Method::{
            Append, Claim, Complete, Fence, Forget, Inspect, List, Peek, PurgeExpired, Release, Renew, Resolve, Steps,
            Subscribe, Suspend,
        };
        [
            Claim,
            Renew,
            Complete,
            Release,
            Suspend,
            Append,
            Steps,
            Fence,
            Forget,
            Resolve,
            Inspect,
            List,
            Peek,
            PurgeExpired,
            Subscribe,
        ]
        .map(|method| self.store.calls(method))
        .into_iter()
        .sum()
    }
}

async fn handle(State(endpoint): State<Endpoint>, headers: HeaderMap, body: Bytes) -> http::StatusCode {
    let Ok(delivery) = endpoint.verifier.verify(&headers, &body) else { return http::StatusCode::BAD_REQUEST };
    match run(&endpoint, "/hooks", delivery.id()).await {
        Ok(()) => http::StatusCode::OK,
        Err(error) => http::StatusCode::from_u16(error.http_status()).unwrap(),
    }
}

#[idempotent(name = "hooks", key = ("sender", path, id), skip(endpoint), store = endpoint.idempotency)]
async fn run(endpoint: &Endpoint, path: &str, id: &str) -> Result<(), Error> {
    endpoint.runs.fetch_add(1, Ordering::SeqCst);
    Ok(())
}

async fn c01_the_store_is_not_called_for_a_bad_signature(database: Database) {
    let verifier = Verifier::stripe([STRIPE_SECRET]).unwrap();
    let server = Counted::start(&database, verifier).await;
    for delivery in bad() {
        assert_eq!(server.send(&delivery.headers, &delivery.body).await, 400);
    }
    let good = stripe(r#"{"id":"evt_1"}"#, now(0), STRIPE_SECRET);
    assert_eq!(server.store_calls(), 0);
    assert_eq!(server.send(&good.headers, &good.body).await, 200);
    assert!(server.store_calls() >= 2, "a claim and a completion");
}

/// Another family of headers is another spelling of the same delivery.
async fn c01_senders_on_svix_are_accepted(database: Database) {
    let program = Program::start(&database.url(), &[]).await;
    for (family, replayed) in [("svix-", false), ("webhook-", true), ("svix-", true)] {
        let mut delivery = event(ENDPOINTS[2], "msg_1", 1);
        for (name, _) in &mut delivery.headers {
            *name = match (family, *name) {
                ("svix-", "webhook-id") => "svix-id",
                ("svix-", "webhook-timestamp") => "svix-timestamp",
                ("svix-", "webhook-signature") => "svix-signature",
                (_, name) => name,
            };
        }
        program.send(&delivery).await.assert_done(replayed);
    }
    let mut mixed = event(ENDPOINTS[2], "msg_2", 2);
    mixed.headers[0].0 = "svix-id";
    program.send(&mixed).await.assert_refused(400);
    database.assert(1, 1).await;
}

async fn c03_ids_of_shopify(database: Database) {
    let server = Counted::start(&database, Verifier::shopify(["hush"]).unwrap()).await;
    let send = async |id: &str, body: &str| {
        let signature = BASE64_STANDARD.encode(hmac(b"hush", body));
        let headers = [("x-shopify-webhook-id", id.to_owned()), ("x-shopify-hmac-sha256", signature)];
        assert_eq!(server.send(&headers, body).await, 200);
        server.runs.load(Ordering::SeqCst)
    };
    assert_eq!(send("b54557e4", r#"{"id":1}"#).await, 1);
    assert_eq!(send("b54557e4", r#"{"id":1}"#).await, 1);
    assert_eq!(send("b54557e5", r#"{"id":1}"#).await, 2, "the same body is not the same event");
}

async fn c02_five_minutes_are_tolerated(database: Database) {
    let program = Program::start(&database.url(), &[]).await;
    for (index, (off, status)) in [(-310, 400), (-290, 200), (290, 200), (310, 400)].into_iter().enumerate() {
        let id = format!("evt_{index}");
        let of_stripe = stripe(&event(ENDPOINTS[0], &id, 1).body, now(off), STRIPE_SECRET);
        let of_standard = event(ENDPOINTS[2], &id, 1);
        let of_standard = standard(ENDPOINTS[2], &of_standard.body, &id, now(off), STANDARD_KEY);
        for delivery in [of_stripe, of_standard] {
            assert_eq!(program.send(&delivery).await.status.as_u16(), status, "{off} s");
        }
    }
    database.assert(4, 4).await;
}

async fn c02_retries_that_are_signed_anew_are_duplicates(database: Database) {
    let program = Program::start(&database.url(), &[]).await;
    let body = event(ENDPOINTS[0], "evt_1", 1).body;
    program.send(&stripe(&body, now(-100), STRIPE_SECRET)).await.assert_done(false);
    program.send(&stripe(&body, now(0), STRIPE_SECRET)).await.assert_done(true);
    // What Stripe counts down from one attempt to the next is not part of the event.
    let fewer = body.replace(r#""pending_webhooks":1"#, r#""pending_webhooks":0"#);
    assert_ne!(fewer, body);
    program.send(&stripe(&fewer, now(0), STRIPE_SECRET)).await.assert_done(true);

    let body = event(ENDPOINTS[2], "msg_1", 1).body;
    for (time, replayed) in [(-100, false), (-50, true), (0, true)] {
        program.send(&standard(ENDPOINTS[2], &body, "msg_1", now(time), STANDARD_KEY)).await.assert_done(replayed);
    }
    database.assert(2, 2).await;
}

async fn c02_either_secret_passes_during_a_rotation(database: Database) {
    let mut rotating = command(&database.url(), &[]);
    rotating.env("STRIPE_WEBHOOK_SECRET", format!("whsec_new,{STRIPE_SECRET}"));
    rotating.env("GITHUB_WEBHOOK_SECRET", format!("new,{GITHUB_SECRET}"));
    rotating.env(
        "STANDARD_WEBHOOK_SECRET",
        format!("{},{}", standard_secret("of tomorrow"), standard_secret(STANDARD_KEY)),
    );
    let program = Program::of(rotating).await;
    let body = event(ENDPOINTS[0], "evt_1", 1).body;
    program.send(&stripe(&body, now(0), STRIPE_SECRET)).await.assert_done(false);
    program.send(&stripe(&body, now(0), "whsec_new")).await.assert_done(true);
    program.send(&stripe(&body, now(0), "whsec_older")).await.assert_refused(400);
    // Stripe signs with both, meanwhile.
    let time = now(0);
    let mut both = stripe(&body, time, "whsec_older");
    let right = stripe(&body, time, "whsec_new").signature().replace(&format!("t={time}"), "");
    both.signature().push_str(&right);
    program.send(&both).await.assert_done(true);

    let body = event(ENDPOINTS[1], "id", 1).body;
    program.send(&github(&body, "id", "new")).await.assert_done(false);
    program.send(&github(&body, "id", GITHUB_SECRET)).await.assert_done(true);
    program.send(&github(&body, "id", "older")).await.assert_refused(400);

    let body = event(ENDPOINTS[2], "msg", 1).body;
    program.send(&standard(ENDPOINTS[2], &body, "msg", now(0), STANDARD_KEY)).await.assert_done(false);
    let time = now(0);
    let mut both = standard(ENDPOINTS[2], &body, "msg", time, "of yesterday");
    let right = standard(ENDPOINTS[2], &body, "msg", time, "of tomorrow").signature().clone();
    both.signature().extend([" v1a,AAAA ", &right]);
    program.send(&both).await.assert_done(true);
    program.send(&standard(ENDPOINTS[2], &body, "msg", now(0), "older")).await.assert_refused(400);
    database.assert(3, 3).await;
}
