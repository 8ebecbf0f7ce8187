//! A real Redis server that is killed, real processes that are killed and frozen, and connections that break.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use idempotent_runtime::{
    Idempotency,
    store::{RecordKey, Store as _, redis::RedisStore},
};
use idempotent_tests::{
    chaos::{
        calls::{Caller, KINDS},
        checker::judge,
        history::{Log, read},
        recorder::Recorder,
    },
    process::Process,
    proxy::{Fault, Proxy},
    redis_server::{RedisProgram, RedisServer},
};
use rand::{Rng as _, RngExt as _, SeedableRng as _, rngs::StdRng};
use tempfile::TempDir;
use tokio::time::{Instant, sleep, timeout};

const KEYS: u32 = 6;
const WORKERS: usize = 3;

fn ms(range: std::ops::Range<u64>, rng: &mut StdRng) -> Duration {
    Duration::from_millis(rng.random_range(range))
}

/// A process of the program `chaos_worker`.
struct Worker {
    process: Process,
    number: u64,
}

impl Worker {
    fn start(number: u64, proxy: &Proxy, folder: &Path, seed: u64) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_chaos_worker"));
        command.arg(format!("redis://{}", proxy.address())).arg(folder.join(format!("worker-{number}")));
        command.args([number.to_string(), seed.to_string()]);
        Self { process: Process::talk(&mut command), number }
    }

    /// Returns whether it ends by itself once it is told to.
    async fn ends(&mut self, within: Duration) -> bool {
        self.process.hang_up();
        timeout(within, self.process.wait()).await.is_ok_and(|status| status.success())
    }
}

struct Nemesis {
    server: RedisServer,
    proxies: Vec<Proxy>,
    workers: Vec<Worker>,
    killed: Vec<u64>,
    started: u64,
    folder: PathBuf,
    operator: Recorder<RedisStore>,
    rng: StdRng,
}

impl Nemesis {
    fn start_worker(&mut self, index: usize) -> Worker {
        self.started += 1;
        Worker::start(self.started, &self.proxies[index], &self.folder, self.rng.next_u64())
    }

    /// Does harm for a moment, and undoes it.
    async fn strike(&mut self) {
        let index = self.rng.random_range(0..WORKERS);
        match self.rng.random_range(0..12) {
            0..2 => {
                let worker = self.start_worker(index);
                let mut victim = std::mem::replace(&mut self.workers[index], worker);
                victim.process.kill();
                self.killed.push(victim.number);
            }
            2..4 => {
                self.workers[index].process.signal("-STOP");
                sleep(ms(20..1_500, &mut self.rng)).await;
                self.workers[index].process.signal("-CONT");
            }
            4 => {
                self.server.kill();
                sleep(ms(0..400, &mut self.rng)).await;
                self.server.restart().await;
            }
            5 => {
                self.server.pause();
                sleep(ms(20..900, &mut self.rng)).await;
                self.server.resume();
            }
            6 => {
                let kind = &KINDS[self.rng.random_range(0..KINDS.len())];
                let key = format!("{}|~{}", kind.name, self.rng.random_range(0..KEYS));
                let key = key.parse::<RecordKey>().expect("a record key");
                // Whether it came to pass is for the history to leave open.
                let _ = self.operator.forget(&key).await;
            }
            _ => {
                let delay = ms(1..600, &mut self.rng);
                let faults = [
                    Fault::CutBeforeRequest,
                    Fault::CutAfterRequest,
                    Fault::CutBeforeReply,
                    Fault::Delay(delay),
                    Fault::LoseRequests,
                    Fault::LoseReplies,
                    Fault::Refuse,
                ];
                let fault = faults[self.rng.random_range(0..faults.len())];
                let proxy = &self.proxies[index];
                proxy.set_after(self.rng.random_range(0..4), fault);
                if fault == Fault::Refuse {
                    proxy.cut();
                }
                sleep(ms(20..1_000, &mut self.rng)).await;
                // What was lost is lost with its connection: a stream has no gaps.
                if matches!(fault, Fault::LoseRequests | Fault::LoseReplies) {
                    proxy.set(Fault::Refuse);
                    proxy.cut();
                }
                proxy.set(Fault::None);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_with_processes_that_die() {
    let seed = crate::seed("redis");
    let until = Instant::now() + Duration::from_secs(crate::seconds());
    let folder = TempDir::new().expect("a temporary folder");
    let server = RedisProgram::Redis.start_durable().await;
    let mut proxies = Vec::new();
    for _ in 0..WORKERS {
        proxies.push(Proxy::start(server.address()).await);
    }
    let log = Log::file(0, &folder.path().join("nemesis"));
    let operator = Recorder::new(RedisStore::connect(&server.url()).await.expect("a server"), log.clone());
    let mut nemesis = Nemesis {
        server,
        proxies,
        workers: Vec::new(),
        killed: Vec::new(),
        started: 0,
        folder: folder.path().to_owned(),
        operator,
        rng: StdRng::seed_from_u64(seed),
    };
    for index in 0..WORKERS {
        let worker = nemesis.start_worker(index);
        nemesis.workers.push(worker);
    }
    while Instant::now() < until {
        sleep(ms(0..300, &mut nemesis.rng)).await;
        nemesis.strike().await;
    }
    for worker in &mut nemesis.workers {
        assert!(worker.ends(Duration::from_secs(20)).await, "CHAOS_SEED={seed}: a worker's calls do not end");
    }
    // Claims that nobody knows of lapse.
    sleep(Duration::from_secs(2)).await;
    let healed = log.now();
    let store = RedisStore::connect(&nemesis.server.url()).await.expect("a server");
    let idempotency = Idempotency::new(Recorder::new(store, log.clone()));
    Caller { idempotency, log, keys: KEYS, blocks: false }.ask_all(&mut nemesis.rng).await;

    let events = read(folder.path());
    crate::keep("redis", &events);
    let verdict = judge(&events, &nemesis.killed, healed);
    println!("{verdict} {:?}", verdict.answers);
    assert!(verdict.violations.is_empty(), "CHAOS_SEED={seed}: {verdict}");
    assert!(verdict.runs > 100 && verdict.takeovers > 10 && verdict.replays > 10, "too quiet: {verdict}");
}
