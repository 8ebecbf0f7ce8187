//! Whole annotated calls on Redis, 64 at a time, against a bare client with the same settings that sends the least
//! commands for the same end: `SET … NX GET PX` and a decoded result for a hit, that and a fenced script for a miss.
//! A step of a run, one at a time, against one bare round trip. And hits with the local cache, one at a time, against the
//! embedded store's.
//!
//! `cargo bench -p idempotent-runtime --features redis,local-cache --bench redis_calls` starts a `redis-server` of its own, and
//! the `valkey-server` that `VALKEY_SERVER` names, where it does: there ours ends a miss without the script.
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a benchmark stops when it is wrong")]
#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

mod support;

use std::{
    ffi::OsStr,
    hint::black_box,
    net::{Ipv4Addr, TcpListener},
    ops::Range,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use idempotent_runtime::{Error, Idempotency, idempotent, step, store::Nonce};
use redis::{
    AsyncConnectionConfig, Cmd, ConnectionInfo, InfoDict, IntoConnectionInfo, Value, aio::MultiplexedConnection,
};
use support::{Bar, KEYS, Order, Receipt, Side, head, medians, nanoseconds, rate, ready, row};
use tempfile::TempDir;
use tokio::runtime::Runtime;

const ROUNDS: usize = 9;
const CONCURRENT: usize = 64;
const HITS: usize = 100_000;
const MISSES: usize = 40_000;
/// The length of a record's header, as in the store.
const HEADER: usize = 74;
const FENCED_SET: &str = "if redis.call('GETRANGE', KEYS[1], 6, 21) ~= ARGV[1] then return 0 end \
     redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3]) return 1";

#[idempotent(key = order_id, store = store, skip(store))]
async fn charge(store: &Idempotency, order_id: &str, order: &Order) -> Result<Receipt, Error> {
    Ok(Receipt::of(order_id, order))
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    head();
    let server = Server::start("redis-server".as_ref());
    calls(&runtime, &server, "", 1.0);
    if let Some(valkey) = std::env::var_os("VALKEY_SERVER") {
        calls(&runtime, &Server::start(&valkey), " on Valkey", 1.4);
    }
    steps(&runtime, &server);
    local_hits(&runtime, &server);
}

/// Hits and misses: how many a second, and what each costs the server.
fn calls(runtime: &Runtime, server: &Server, on: &str, miss_bar: f64) {
    let ours = Arc::new(runtime.block_on(Annotated::connect(server)));
    let bare = Arc::new(runtime.block_on(Bare::connect(server)));
    let _ = rate(runtime, &ours, "hit", 0..KEYS, CONCURRENT);
    let _ = rate(runtime, &bare, "hit", 0..KEYS, CONCURRENT);
    let (mut our_cpu, mut bare_cpu) = (Vec::new(), Vec::new());
    let figures = medians(
        ROUNDS,
        [&mut || server.busy(HITS, &mut our_cpu, || rate(runtime, &ours, "hit", 0..HITS, CONCURRENT)), &mut || {
            server.busy(HITS, &mut bare_cpu, || rate(runtime, &bare, "hit", 0..HITS, CONCURRENT))
        }],
    );
    report(&format!("hit{on}, 64 at a time"), figures, "bare SET NX GET PX and decode", Bar::AtLeast(0.95));
    report_cpu(&format!("hit{on}"), &mut our_cpu, &mut bare_cpu);
    let (mut a, mut b) = (0, 0);
    let figures = medians(
        ROUNDS,
        [
            &mut || server.busy(MISSES, &mut our_cpu, || rate(runtime, &ours, "miss", fresh(&mut a), CONCURRENT)),
            &mut || server.busy(MISSES, &mut bare_cpu, || rate(runtime, &bare, "miss", fresh(&mut b), CONCURRENT)),
        ],
    );
    report(&format!("miss{on}, 64 at a time"), figures, "bare SET NX GET PX and fenced script", Bar::AtLeast(miss_bar));
    report_cpu(&format!("miss{on}"), &mut our_cpu, &mut bare_cpu);
}

/// Prints the cost of a call to the server, and empties the figures.
fn report_cpu(what: &str, ours: &mut Vec<f64>, bare: &mut Vec<f64>) {
    let [ours, bare] = [ours, bare].map(|figures| {
        figures.sort_by(f64::total_cmp);
        let median = figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN);
        figures.clear();
        median
    });
    row(&format!("{what}, the server's CPU"), "ns", ours, "bare", bare, Bar::AtMost(1.0));
}

/// The steps of a run, one after the other.
fn steps(runtime: &Runtime, server: &Server) {
    const ROUNDS: usize = 301;
    const STEPS: u32 = 20;
    let idempotency = runtime.block_on(Idempotency::connect(&server.url())).unwrap();
    let bare = runtime.block_on(Bare::connect(server));
    let in_a_run = |number: u64| {
        let body = async {
            let start = Instant::now();
            for step_number in 0..STEPS {
                step(("s", step_number), async { Ok::<_, Error>(step_number) }).await?;
            }
            Ok::<_, Error>(start.elapsed())
        };
        runtime.block_on(idempotency.call("steps").key(number).run(body)).unwrap()
    };
    let alone = || {
        runtime.block_on(async {
            let start = Instant::now();
            for step_number in 0..STEPS {
                let mut connection = bare.connection.clone();
                let set = redis::cmd("SET").arg("step").arg(step_number).arg("PX").arg(60_000).to_owned();
                let _: Value = connection.send_packed_command(&set).await.unwrap();
            }
            start.elapsed()
        })
    };
    let per_step = |elapsed: Duration| elapsed.as_secs_f64() * 1e6 / f64::from(STEPS);
    let mut number = 0;
    let [ours, alone] = medians(
        ROUNDS,
        [
            &mut || {
                number += 1;
                per_step(in_a_run(number))
            },
            &mut || per_step(alone()),
        ],
    );
    row("a step, one at a time", "µs", ours, "one bare SET", alone, Bar::AtMost(1.1));
}

/// Hits that never wait, on Redis behind the local cache and in memory.
fn local_hits(runtime: &Runtime, server: &Server) {
    const ROUNDS: usize = 301;
    const RUNS: u32 = 500;
    let keys: Vec<_> = (0..10_000).map(|key| format!("local-{key:08}")).collect();
    let builder = Idempotency::builder().local_cache(64 << 20);
    let cached = runtime.block_on(builder.connect(&server.url())).unwrap();
    let sides =
        [cached, Idempotency::memory()].map(|idempotency| Annotated { idempotency, order: Order::of_size(100) });
    for side in &sides {
        runtime.block_on(async {
            for key in &keys {
                side.call(key).await;
            }
        });
    }
    let _entered = runtime.enter();
    let hits = |side: &Annotated, position: &mut usize| {
        nanoseconds(RUNS, || {
            // An order that no processor's cache foresees.
            *position = (*position + 7919) % keys.len();
            drop(black_box(ready(side.call(keys.get(*position).unwrap()))));
        })
    };
    let [cached, memory] = &sides;
    let (mut a, mut b) = (0, 0);
    let [ours, memory] = medians(ROUNDS, [&mut || hits(cached, &mut a), &mut || hits(memory, &mut b)]);
    row("hit with the local cache", "ns", ours, "embedded store", memory, Bar::AtMost(1.2));
}

fn report(what: &str, [ours, bare]: [f64; 2], against: &str, bar: Bar) {
    row(what, "k/s", ours / 1e3, against, bare / 1e3, bar);
}

/// Numbers of keys that were not there before.
fn fresh(last: &mut usize) -> Range<usize> {
    *last += MISSES;
    *last - MISSES..*last
}

/// The annotated function.
struct Annotated {
    idempotency: Idempotency,
    order: Order,
}

impl Annotated {
    async fn connect(server: &Server) -> Self {
        Self { idempotency: Idempotency::connect(&server.url()).await.unwrap(), order: Order::of_size(100) }
    }
}

impl Side for Annotated {
    async fn call(&self, key: &str) -> Receipt {
        charge(&self.idempotency, key, &self.order).await.unwrap()
    }
}

/// The client alone.
struct Bare {
    connection: MultiplexedConnection,
    script: String,
    order: Order,
}

impl Bare {
    async fn connect(server: &Server) -> Self {
        let info: ConnectionInfo = server.url().into_connection_info().unwrap();
        let settings = redis::io::tcp::TcpSettings::default().set_nodelay(true);
        let client = redis::Client::open(info.set_tcp_settings(settings)).unwrap();
        let config = AsyncConnectionConfig::new()
            .set_response_timeout(Some(Duration::from_secs(2)))
            .set_pipeline_buffer_size(1024)
            .set_write_backpressure_boundary(64 * 1024);
        let mut connection = client.get_multiplexed_async_connection_with_config(&config).await.unwrap();
        let mut load = redis::cmd("SCRIPT");
        load.arg("LOAD").arg(FENCED_SET);
        let script = load.query_async(&mut connection).await.unwrap();
        Self { connection, script, order: Order::of_size(100) }
    }

    async fn send(&self, command: &Cmd) -> Value {
        self.connection.clone().send_packed_command(command).await.unwrap()
    }
}

impl Side for Bare {
    async fn call(&self, key: &str) -> Receipt {
        let nonce = Nonce::random();
        let mut record = vec![b'0'; HEADER];
        record.get_mut(6..22).unwrap().copy_from_slice(nonce.as_bytes());
        let full_key = format!("bare:{key}");
        let mut set = Cmd::new();
        set.arg("SET").arg(&full_key).arg(&record).arg("NX").arg("GET").arg("PX").arg(86_430_000);
        match self.send(&set).await {
            Value::BulkString(record) => serde_json::from_slice(record.get(HEADER..).unwrap()).unwrap(),
            Value::Nil => {
                let receipt = Receipt::of(key, &self.order);
                serde_json::to_writer(&mut record, &receipt).unwrap();
                let mut complete = Cmd::new();
                complete.arg("EVALSHA").arg(&self.script).arg(1).arg(full_key);
                complete.arg(nonce.as_bytes().as_slice()).arg(record).arg(86_400_000);
                assert_eq!(self.send(&complete).await, Value::Int(1));
                receipt
            }
            other => panic!("neither a record nor none: {other:?}"),
        }
    }
}

/// A server on a free port, in a temporary folder.
struct Server {
    child: Child,
    port: u16,
    _folder: TempDir,
}

impl Server {
    fn start(program: &OsStr) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let child = Command::new(program)
            .args(["--save", "", "--appendonly", "no", "--bind", "127.0.0.1", "--port", &port.to_string(), "--dir"])
            .arg(folder.path())
            .stdout(Stdio::null())
            .spawn()
            .expect("the server cannot be run");
        let mut server = Self { child, port, _folder: folder };
        let deadline = Instant::now() + Duration::from_secs(20);
        while redis::Client::open(server.url()).unwrap().get_connection().is_err() {
            assert!(server.child.try_wait().unwrap().is_none(), "the server has ended");
            assert!(Instant::now() < deadline, "the server does not answer");
            std::thread::yield_now();
        }
        server
    }

    /// Runs a round, and adds what each of its calls cost the server, in ns.
    fn busy(&self, calls: usize, figures: &mut Vec<f64>, round: impl FnOnce() -> f64) -> f64 {
        let before = self.cpu_seconds();
        let rate = round();
        figures.push((self.cpu_seconds() - before) * 1e9 / f64::from(u32::try_from(calls).unwrap()));
        rate
    }

    fn cpu_seconds(&self) -> f64 {
        let mut connection = redis::Client::open(self.url()).unwrap().get_connection().unwrap();
        let info: InfoDict = redis::cmd("INFO").arg("cpu").query(&mut connection).unwrap();
        ["used_cpu_user", "used_cpu_sys"].iter().map(|name| info.get::<f64>(name).unwrap()).sum()
    }

    fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
