//! The Redis store against a bare client that sends the same commands: `cargo bench -p idempotent-tests --bench redis`.
//!
//! Both sides alternate on one server; the figures are medians. A hit decodes its JSON result, a miss is a claim and a
//! completion. The bare miss is `SET … NX GET PX` and the least script that fences a write.

#![expect(clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "a bench that cannot measure fails")]

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use idempotent_runtime::{
    Fingerprint, Store,
    store::{ClaimOutcome, ClaimRequest, Nonce, Outcome, RecordKey, redis::RedisStore},
};
use idempotent_tests::redis_server::RedisServer;
use redis::{AsyncConnectionConfig, Cmd, ConnectionInfo, IntoConnectionInfo, Value, aio::MultiplexedConnection};
use tokio::{task::JoinSet, time::Instant};

const ROUNDS: usize = 9;
const KEYS: usize = 1024;
const PREFIX: &str = "idempotent:";
const FENCED_SET: &str = "if redis.call('GETRANGE', KEYS[1], 6, 21) ~= ARGV[1] then return 0 end \
     redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3]) return 1";

fn main() {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build();
    runtime.expect("a runtime").block_on(run());
}

async fn run() {
    let server = RedisServer::start().await;
    let store = Arc::new(RedisStore::connect(&server.url()).await.expect("a store"));
    let bare = Bare::connect(&server).await;
    for key in 0..KEYS {
        store_miss(&store, &record_key("hit", key)).await;
    }
    println!("{:<24}{:>14}{:>14}{:>8}", "median of 9 rounds", "store, 1/s", "bare, 1/s", "ratio");
    for concurrency in [1, 64] {
        let calls = if concurrency == 1 { 20_000 } else { 200_000 };
        let hit = compare(
            async |_| {
                measure(&store, concurrency, calls, |store, index| async move {
                    store_hit(&store, &record_key("hit", index % KEYS)).await;
                })
                .await
            },
            async |_| {
                measure(&bare, concurrency, calls, |bare, index| async move {
                    bare.hit(&record_key("hit", index % KEYS)).await;
                })
                .await
            },
        );
        report(&format!("hit, {concurrency} at once"), calls, hit.await);
        let calls = calls / 4;
        let miss = compare(
            async |round| {
                measure(&store, concurrency, calls, move |store, index| async move {
                    store_miss(&store, &record_key("miss", (round * 2) * calls + index)).await;
                })
                .await
            },
            async |round| {
                measure(&bare, concurrency, calls, move |bare, index| async move {
                    bare.miss(&record_key("miss", (round * 2 + 1) * calls + index)).await;
                })
                .await
            },
        );
        report(&format!("miss, {concurrency} at once"), calls, miss.await);
        server.command::<()>(&["FLUSHALL", "ASYNC"]).await;
        for key in 0..KEYS {
            store_miss(&store, &record_key("hit", key)).await;
        }
    }
}

/// The median times of both sides.
async fn compare(ours: impl AsyncFn(usize) -> Duration, bare: impl AsyncFn(usize) -> Duration) -> [Duration; 2] {
    let (mut left, mut right) = (Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        let times = if round % 2 == 0 {
            (ours(round).await, bare(round).await)
        } else {
            let bare = bare(round).await;
            (ours(round).await, bare)
        };
        // The first round warms up.
        if round > 0 {
            left.push(times.0);
            right.push(times.1);
        }
    }
    left.sort();
    right.sort();
    [left[ROUNDS / 2], right[ROUNDS / 2]]
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
fn report(what: &str, calls: usize, [ours, bare]: [Duration; 2]) {
    let [ours, bare] = [ours, bare].map(|time| calls as f64 / time.as_secs_f64());
    println!("{what:<24}{ours:>14.0}{bare:>14.0}{:>8.2}", ours / bare);
}

/// How long so many calls take, so many at once.
async fn measure<S, F, R>(subject: &Arc<S>, concurrency: usize, calls: usize, call: F) -> Duration
where
    S: Send + Sync + 'static,
    F: Fn(Arc<S>, usize) -> R + Copy + Send + Sync + 'static,
    R: Future<Output = ()> + Send,
{
    let started = Instant::now();
    let mut tasks = JoinSet::new();
    for task in 0..concurrency {
        let subject = Arc::clone(subject);
        tasks.spawn(async move {
            for index in (task..calls).step_by(concurrency) {
                call(Arc::clone(&subject), index).await;
            }
        });
    }
    tasks.join_all().await;
    started.elapsed()
}

fn record_key(kind: &str, index: usize) -> RecordKey {
    RecordKey::parse(&format!("bench.{kind}|order-{index:08}")).expect("a record key")
}

fn result() -> Bytes {
    let receipt = serde_json::json!({
        "id": "rcpt_0001", "amount_cents": 4999, "currency": "EUR", "status": "settled",
        "customer": "cus_8213", "lines": ["book", "pen", "postage"], "note": "thank you for your order, see you soon",
    });
    receipt.to_string().into()
}

fn request() -> ClaimRequest {
    ClaimRequest {
        fingerprint: Fingerprint::from_bytes([7; 32]),
        nonce: Nonce::random(),
        lease: Duration::from_secs(30),
        ttl: Duration::from_secs(3600),
        take_over: true,
    }
}

fn decode(json: &[u8]) {
    let value: serde_json::Value = serde_json::from_slice(json).expect("JSON");
    assert!(std::hint::black_box(value).is_object());
}

async fn store_hit(store: &RedisStore, key: &RecordKey) {
    match store.claim(key, &request()).await.expect("an answer") {
        ClaimOutcome::Done(finished) => match finished.outcome {
            Outcome::Ok(json) => decode(&json),
            other => panic!("not a result: {other:?}"),
        },
        other => panic!("not a hit: {other:?}"),
    }
}

async fn store_miss(store: &RedisStore, key: &RecordKey) {
    let ClaimOutcome::Claimed { token, .. } = store.claim(key, &request()).await.expect("an answer") else {
        panic!("not a miss");
    };
    let outcome = Outcome::Ok(result());
    let _ = store.complete(key, &token, &outcome, Duration::from_secs(3600)).await.expect("an answer");
}

/// The client alone, with the store's connection settings.
struct Bare {
    connection: MultiplexedConnection,
    script: String,
}

impl Bare {
    async fn connect(server: &RedisServer) -> Arc<Self> {
        let info: ConnectionInfo = server.url().into_connection_info().expect("a URL");
        let settings = redis::io::tcp::TcpSettings::default().set_nodelay(true);
        let client = redis::Client::open(info.set_tcp_settings(settings)).expect("a client");
        let config = AsyncConnectionConfig::new()
            .set_response_timeout(Some(Duration::from_secs(2)))
            .set_pipeline_buffer_size(1024)
            .set_write_backpressure_boundary(64 * 1024);
        let mut connection = client.get_multiplexed_async_connection_with_config(&config).await.expect("a connection");
        let mut load = redis::cmd("SCRIPT");
        load.arg("LOAD").arg(FENCED_SET);
        let script = load.query_async(&mut connection).await.expect("a script");
        Arc::new(Self { connection, script })
    }

    async fn set(&self, key: &RecordKey, nonce: &Nonce) -> Value {
        let mut record = [b'0'; 74];
        record[6..22].copy_from_slice(nonce.as_bytes());
        let mut command = Cmd::new();
        command.arg("SET").arg(format!("{PREFIX}{}", key.as_str())).arg(&record[..]);
        command.arg("NX").arg("GET").arg("PX").arg(3_630_000);
        self.connection.clone().send_packed_command(&command).await.expect("an answer")
    }

    async fn hit(&self, key: &RecordKey) {
        match self.set(key, &Nonce::random()).await {
            Value::BulkString(record) => decode(&record[74..]),
            other => panic!("not a hit: {other:?}"),
        }
    }

    async fn miss(&self, key: &RecordKey) {
        let nonce = Nonce::random();
        assert_eq!(self.set(key, &nonce).await, Value::Nil);
        let mut record = vec![b'0'; 74];
        record.extend_from_slice(&result());
        let mut command = Cmd::new();
        command.arg("EVALSHA").arg(&self.script).arg(1).arg(format!("{PREFIX}{}", key.as_str()));
        command.arg(nonce.as_bytes().as_slice()).arg(record).arg(3_600_000);
        assert_eq!(self.connection.clone().send_packed_command(&command).await, Ok(Value::Int(1)));
    }
}
