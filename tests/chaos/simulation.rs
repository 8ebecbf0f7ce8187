//! The memory store behind simulated networks, in virtual time: minutes in seconds.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use idempotent_runtime::{
    Idempotency,
    store::{RecordKey, Store, memory::MemoryStore},
};
use idempotent_tests::chaos::{
    calls::{Caller, KINDS},
    checker::{Verdict, judge},
    history::Log,
    network::{Network, VirtualClock},
    recorder::Recorder,
};
use rand::{Rng as _, RngExt as _, SeedableRng as _, rngs::StdRng};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

use idempotent_tests::mutants::{Bug, Mutant};

const KEYS: u32 = 3;
const MANY_KEYS: u32 = 20;
const PROCESSES: usize = 3;
const CALLERS: usize = 4;

/// Callers in what would be a process.
struct Process {
    callers: JoinSet<()>,
    dead: Arc<AtomicBool>,
    number: u64,
}

struct World {
    store: Arc<dyn Store>,
    clock: VirtualClock,
    log: Log,
    stormy: Arc<AtomicBool>,
    until: Instant,
    rng: StdRng,
    processes: u64,
}

impl World {
    fn caller(&mut self) -> (Caller, Arc<AtomicBool>) {
        self.processes += 1;
        let log = self.log.of(self.processes);
        let network =
            Network::new(Arc::clone(&self.store), self.clock.clone(), self.rng.next_u64(), Arc::clone(&self.stormy));
        let dead = network.dead();
        let idempotency = Idempotency::new(Recorder::new(network, log.clone()));
        (Caller { idempotency, log, keys: KEYS, blocks: false }, dead)
    }

    fn start(&mut self) -> Process {
        let (caller, dead) = self.caller();
        let mut callers = JoinSet::new();
        for _ in 0..CALLERS {
            let (caller, until) = (caller.clone(), self.until);
            let mut rng = StdRng::seed_from_u64(self.rng.next_u64());
            callers.spawn(async move {
                while Instant::now() < until {
                    caller.call(&mut rng).await;
                    sleep(Duration::from_millis(rng.random_range(0..40))).await;
                }
            });
        }
        Process { callers, dead, number: caller.log.process }
    }
}

/// Runs for so many virtual seconds, and judges.
async fn simulate(seed: u64, seconds: u64, bug: Option<Bug>) -> Verdict {
    let clock = VirtualClock::start();
    let store = Mutant::new(MemoryStore::builder().clock(&clock.store).build(), bug);
    let mut world = World {
        store: Arc::new(store),
        log: Log::memory(),
        stormy: Arc::new(AtomicBool::new(true)),
        until: Instant::now() + Duration::from_secs(seconds),
        rng: StdRng::seed_from_u64(seed),
        processes: 0,
        clock,
    };
    let mut processes: Vec<_> = (0..PROCESSES).map(|_| world.start()).collect();
    let mut killed = Vec::new();
    while Instant::now() < world.until {
        sleep(Duration::from_millis(world.rng.random_range(0..2_000))).await;
        let index = world.rng.random_range(0..PROCESSES);
        if world.rng.random_bool(0.4) {
            let process = std::mem::replace(&mut processes[index], world.start());
            process.dead.store(true, Relaxed);
            killed.push(process.number);
        } else {
            let kind = &KINDS[world.rng.random_range(0..KINDS.len())];
            let key = format!("{}|~{}", kind.name, world.rng.random_range(0..KEYS));
            let key = key.parse::<RecordKey>().expect("a record key");
            let operator = Recorder::new(Arc::clone(&world.store), world.log.of(0));
            operator.forget(&key).await.expect("removed, or not there");
        }
    }
    for process in &mut processes {
        while let Some(ended) = process.callers.join_next().await {
            ended.expect("a caller survives its calls");
        }
    }
    // All that is late has come by then, and every lease has ended.
    world.stormy.store(false, Relaxed);
    sleep(Duration::from_secs(8)).await;
    let healed = world.log.now();
    let (caller, _) = world.caller();
    caller.ask_all(&mut world.rng).await;
    let events = world.log.take();
    crate::keep("simulation", &events);
    judge(&events, &killed, healed)
}

#[tokio::test(start_paused = true)]
async fn the_memory_store_behind_bad_networks() {
    let seed = crate::seed("simulation");
    let verdict = simulate(seed, crate::seconds() * 10, None).await;
    println!("{verdict} {:?}", verdict.answers);
    assert!(verdict.violations.is_empty(), "CHAOS_SEED={seed}: {verdict}");
    assert!(verdict.runs > 100 && verdict.takeovers > 10 && verdict.replays > 10, "too quiet: {verdict}");
}

/// Runs without a network, on two threads, in real time: callers of two handles meet in the store and in the engine.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_memory_store_in_one_process() {
    let seed = crate::seed("memory");
    let mut rng = StdRng::seed_from_u64(seed);
    let (store, log, until) =
        (MemoryStore::new(), Log::memory(), Instant::now() + Duration::from_secs(crate::seconds()));
    let mut callers = JoinSet::new();
    for process in 1..=2 {
        let log = log.of(process);
        let idempotency = Idempotency::new(Recorder::new(store.clone(), log.clone()));
        let caller = Caller { idempotency, log, keys: MANY_KEYS, blocks: true };
        for _ in 0..CALLERS * 2 {
            let (caller, mut rng) = (caller.clone(), StdRng::seed_from_u64(rng.next_u64()));
            callers.spawn(async move {
                while Instant::now() < until {
                    caller.call(&mut rng).await;
                    sleep(Duration::from_millis(rng.random_range(0..10))).await;
                }
            });
        }
    }
    callers.join_all().await;
    sleep(Duration::from_secs(2)).await;
    let healed = log.now();
    let idempotency = Idempotency::new(Recorder::new(store, log.clone()));
    Caller { idempotency, log: log.clone(), keys: MANY_KEYS, blocks: false }.ask_all(&mut rng).await;
    let events = log.take();
    crate::keep("memory", &events);
    let verdict = judge(&events, &[], healed);
    println!("{verdict} {:?}", verdict.answers);
    assert!(verdict.violations.is_empty(), "CHAOS_SEED={seed}: {verdict}");
    assert!(verdict.runs > 100 && verdict.takeovers > 10 && verdict.replays > 10, "too quiet: {verdict}");
}

/// Simulates until the checker objects as it should.
async fn convicted(seed: u64, bug: Bug, promise: &str) -> bool {
    for round in 0..20 {
        let verdict = simulate(seed.wrapping_add(round), 60, Some(bug)).await;
        if verdict.violations.iter().any(|violation| violation.contains(promise)) {
            return true;
        }
    }
    false
}

macro_rules! convicts {
    ($($test:ident: $bug:ident of $promise:literal)*) => {$(
        #[tokio::test(start_paused = true)]
        async fn $test() {
            let seed = crate::seed(stringify!($test));
            assert!(convicted(seed, Bug::$bug, $promise).await, "CHAOS_SEED={seed}");
        }
    )*};
}

convicts! {
    grants_within_a_lease: ChecksThenActs of "I2"
    fences_that_stand_still: FenceIsConstant of "I3"
    late_completions: CompleteIgnoresOwner of "I4"
    releases_by_strangers: ReleaseIgnoresOwner of "I2"
    takeovers_that_were_refused: TakesOverAnyway of "I6"
    attempts_uncounted: AttemptsUncounted of "I6"
    takeovers_never_made: NeverTakesOver of "I6"
    mismatches_missed: MismatchUncheckedWhenLapsed of "I7"
    errors_replayed_as_values: ErrBecomesOk of "I9"
}
