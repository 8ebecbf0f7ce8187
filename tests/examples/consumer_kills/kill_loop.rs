//! Everything at once, for a while: workers are killed, stopped and drained, servers are killed, connections are cut.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
    fs,
    path::Path,
    pin::pin,
    time::Duration,
};

use idempotent_tests::{
    database::Database,
    postgres_database::PostgresDatabase,
    proxy::{Fault, Proxy},
};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng, seq::SliceRandom as _};
use sqlx::query_scalar;
use tempfile::TempDir;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, sleep_until, timeout},
};

use crate::{
    bench::{LEASE, create_effects, message},
    broker::{Broker, Kind, Sender, Sent},
    on_each_broker,
    plan::{ALL, Plan, Report, Then, Worker, note},
    variable,
};

on_each_broker! { crate::kill_loop::deadline; everything_at_once }

fn deadline() -> Duration {
    Duration::from_secs(180 + variable("CONSUMER_MESSAGES", MESSAGES) / 20)
}

const MESSAGES: u64 = 2_000;
const LOOSE: &str = "loose";
/// Its messages have partitions, and it has one active consumer.
const ORDERED: &str = "ordered";
const PARTITIONS: usize = 20;
/// A kill uses up an attempt of all that run.
const MAX_ATTEMPTS: u32 = 100;
const BATCH: usize = 50;
/// The longest time without an effect.
const STALLED: Duration = Duration::from_mins(1);
/// The longest time that one step of the test takes: a broker that starts at the third try.
const STEP: Duration = Duration::from_secs(90);

async fn everything_at_once(kind: Kind) {
    let messages = variable("CONSUMER_MESSAGES", MESSAGES);
    let duration = Duration::from_secs(variable("CONSUMER_SECONDS", 12));
    let pause = variable("CONSUMER_PAUSE_MS", 500);
    let seed = variable("CONSUMER_SEED", u64::from(rand::random::<u32>()));
    println!("{kind:?}: CONSUMER_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let traffic = Traffic::new(messages, &mut random);

    let mut stage = Stage::new(kind).await;
    let began = Instant::now();
    let mut senders = JoinSet::new();
    for (queue, messages) in [(LOOSE, &traffic.loose), (ORDERED, &traffic.ordered)] {
        let (sender, messages, notes) = (stage.broker.sender(), messages.clone(), stage.crew[0].0.notes());
        senders.spawn(async move { send(sender, queue, messages, duration, &notes).await });
    }
    let mut counts = BTreeMap::<_, u32>::new();
    let expected = traffic.succeeding.len() as i64;
    // One round as a whole, and others until the end is near.
    'rounds: for number in 0.. {
        let mut round = Disturbance::ROUND;
        round.shuffle(&mut random);
        for disturbance in round {
            if number > 0 && began.elapsed() >= duration && stage.effects().await >= expected * 9 / 10 {
                break 'rounds;
            }
            sleep(Duration::from_millis(random.random_range(pause / 2..=pause * 3 / 2))).await;
            within(disturbance, stage.disturb(disturbance, &mut random)).await;
            *counts.entry(disturbance).or_default() += 1;
            stage.respawn();
            while let Some(sent) = senders.try_join_next() {
                sent.unwrap();
            }
        }
    }
    let disturbed = began.elapsed();
    while let Some(sent) = senders.join_next().await {
        sent.unwrap();
    }
    stage.work_off(expected, &traffic).await;
    let elapsed = began.elapsed();
    stage.end().await;

    let (sent, per_second) =
        (traffic.loose.len() + traffic.ordered.len(), expected / i64::try_from(elapsed.as_secs().max(1)).unwrap());
    println!(
        "{kind:?}: {messages} messages, sent {sent} times, in {elapsed:.0?} ({per_second} a second), {disturbed:.0?} of \
         them disturbed {counts:?}; what the drained workers say: {:?}",
        stage.reports
    );
    stage.judge(&traffic).await;
}

/// What is sent, in its order.
struct Traffic {
    loose: Vec<Sent>,
    ordered: Vec<Sent>,
    succeeding: BTreeSet<String>,
    /// Those that are to be dead letters.
    poison: BTreeSet<String>,
}

impl Traffic {
    /// A fifth is sent once more, up to two hundred messages later.
    fn new(messages: u64, random: &mut StdRng) -> Self {
        let (mut loose, mut ordered) = (Vec::new(), Vec::new());
        let (mut succeeding, mut poison) = (BTreeSet::new(), BTreeSet::new());
        let mut numbers = [0; PARTITIONS];
        for place in 0..messages {
            let then = match random.random_range(0..100) {
                0 => Then::FailForEver,
                1..6 => Then::FailOnce,
                _ => Then::Succeed,
            };
            let hold = random.random_range(0..10);
            let (queue, sent) = if random.random_bool(0.3) {
                let key = random.random_range(0..numbers.len());
                numbers[key] += 1;
                let mut sent = message(&format!("k{key}-{}", numbers[key]), hold, then);
                sent.partition = Some(format!("k{key}"));
                (&mut ordered, sent)
            } else {
                (&mut loose, message(&format!("m{place}"), hold, then))
            };
            let ids = if then == Then::FailForEver { &mut poison } else { &mut succeeding };
            ids.insert(sent.id.clone());
            if random.random_bool(0.2) {
                queue.push((place + random.random_range(1..200), sent.clone()));
            }
            queue.push((place, sent));
        }
        let [loose, ordered] = [loose, ordered].map(|mut queue| {
            queue.sort_by_key(|(place, _)| *place);
            queue.into_iter().map(|(_, sent)| sent).collect()
        });
        Self { loose, ordered, succeeding, poison }
    }
}

/// Sends all messages, spread over a time. A batch that is not confirmed is sent again, as a whole.
async fn send(mut sender: Sender, queue: &'static str, messages: Vec<Sent>, duration: Duration, notes: &Path) {
    let pause = duration / u32::try_from(messages.len()).unwrap();
    for batch in batches(&messages) {
        let began = Instant::now();
        let tell = |what: &str| batch.iter().for_each(|message| note(notes, &message.id, what));
        tell("is sent");
        while let Err(error) = sender.send(queue, batch).await {
            tell(&format!("is sent again: {error}"));
            eprintln!("{queue}: {error}");
            assert!(began.elapsed() < STEP, "{queue}: messages that the broker does not take");
            sleep(Duration::from_millis(200)).await;
        }
        tell("is confirmed");
        sleep_until(began + pause * u32::try_from(batch.len()).unwrap()).await;
    }
}

/// Each has one message of a partition at most: a broker may refuse one message, and take the next one.
fn batches(mut messages: &[Sent]) -> impl Iterator<Item = &[Sent]> {
    std::iter::from_fn(move || {
        let mut partitions = BTreeSet::new();
        let second = messages
            .iter()
            .take(BATCH)
            .position(|message| message.partition.as_ref().is_some_and(|partition| !partitions.insert(partition)));
        let len = second.unwrap_or(BATCH.min(messages.len()));
        let (batch, rest) = messages.split_at(len);
        messages = rest;
        (len > 0).then_some(batch)
    })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Disturbance {
    KillWorker,
    StopWorker,
    DrainWorker,
    CutBroker,
    CutDatabase,
    KillBroker,
    KillDatabase,
}

impl Disturbance {
    const ROUND: [Self; 10] = [
        Self::KillWorker,
        Self::KillWorker,
        Self::KillWorker,
        Self::StopWorker,
        Self::DrainWorker,
        Self::DrainWorker,
        Self::CutBroker,
        Self::CutDatabase,
        Self::KillBroker,
        Self::KillDatabase,
    ];
}

/// Servers, and the workers between them.
struct Stage {
    broker: Broker,
    database: Database,
    /// In front of the broker, and in front of the database.
    proxies: [Proxy; 2],
    crew: Vec<(Plan, Option<Worker>)>,
    reports: Report,
    dir: TempDir,
}

impl Stage {
    async fn new(kind: Kind) -> Self {
        let broker = Broker::own(kind).await;
        for (queue, is_ordered) in [(LOOSE, false), (ORDERED, true)] {
            broker.create(queue, MAX_ATTEMPTS, is_ordered).await;
        }
        for queue in [LOOSE, ORDERED] {
            broker.wait_until_kept(queue).await;
        }
        let database = PostgresDatabase::on_its_own_server().await;
        let proxies = [Proxy::start(broker.address()).await, Proxy::start(database.address()).await];
        let url = database.url_at(proxies[1].address());
        let database = Database::Postgres(database);
        create_effects(&database).await;
        let dir = tempfile::tempdir().unwrap();
        let crew = [("a", LOOSE), ("b", LOOSE), ("c", LOOSE), ("only", ORDERED)].map(|(name, queue)| {
            let plan = Plan {
                name: name.to_owned(),
                source: broker.source(queue, Some(&proxies[0])),
                database: url.clone(),
                runs: dir.path().join("runs"),
                lease: LEASE,
                max_attempts: MAX_ATTEMPTS,
                backoff: Duration::from_millis(100),
                concurrency: 8,
                prefetch: 40,
                drain: Duration::from_secs(5),
                dies: None,
                is_quiet: true,
            };
            (plan, None)
        });
        let mut stage = Self { broker, database, proxies, crew: crew.into(), reports: Report::default(), dir };
        stage.respawn();
        stage
    }

    async fn effects(&self) -> i64 {
        self.database.number("SELECT count(*) FROM effects").await
    }

    async fn waiting(&self) -> u64 {
        let both = async { self.broker.waiting(LOOSE).await + self.broker.waiting(ORDERED).await };
        within("a look at the queues", both).await
    }

    /// Starts the workers that have ended.
    fn respawn(&mut self) {
        for (plan, worker) in &mut self.crew {
            if worker.as_mut().is_none_or(|worker| worker.process.ended().is_some()) {
                *worker = Some(Worker::start(plan, &self.dir.path().join(format!("{}.log", plan.name))));
            }
        }
    }

    async fn disturb(&mut self, disturbance: Disturbance, random: &mut StdRng) {
        let at = random.random_range(0..self.crew.len());
        let pause = Duration::from_millis(random.random_range(0..1_000));
        let notes = self.crew[at].0.notes();
        note(&notes, ALL, &format!("{disturbance:?} {} begins", self.crew[at].0.name));
        let worker = &mut self.crew[at].1;
        match disturbance {
            Disturbance::KillWorker => drop(worker.take()),
            Disturbance::StopWorker => {
                let worker = worker.as_ref().unwrap();
                worker.process.signal("-STOP");
                sleep(LEASE + 2 * pause).await;
                worker.process.signal("-CONT");
            }
            Disturbance::DrainWorker => self.reports += worker.take().unwrap().drain().await,
            Disturbance::CutBroker => cut(&self.proxies[0], pause).await,
            Disturbance::CutDatabase => cut(&self.proxies[1], pause).await,
            Disturbance::KillBroker => self.broker.kill_for(pause).await,
            Disturbance::KillDatabase => {
                let Database::Postgres(database) = &mut self.database else { unreachable!() };
                database.server().kill();
                sleep(pause).await;
                database.server().restart().await;
            }
        }
        note(&notes, ALL, &format!("{disturbance:?} ends"));
    }

    /// Lets the workers work off what there is.
    async fn work_off(&mut self, expected: i64, traffic: &Traffic) {
        let (mut effects, mut last) = (0, Instant::now());
        loop {
            let now = within("a look at the effects", self.effects()).await;
            let waiting = self.waiting().await;
            if now >= expected && waiting == 0 {
                return;
            }
            if now != effects {
                (effects, last) = (now, Instant::now());
            }
            if last.elapsed() > STALLED {
                let held = self.held(traffic).await;
                panic!("stalled at {now} of {expected} effects, with {waiting} messages waiting; {held}");
            }
            self.respawn();
            sleep(Duration::from_millis(200)).await;
        }
    }

    /// Says who has the messages of a test that stands still: workers give them back, and a broker has lost the others.
    async fn held(&mut self, traffic: &Traffic) -> String {
        let mut drained = Vec::new();
        for (plan, worker) in &mut self.crew {
            if let Some(worker) = worker.take() {
                drained
                    .push((plan.name.clone(), within("a drain of a worker that stands still", worker.drain()).await));
            }
        }
        let given_back = self.waiting().await;
        let Database::Postgres(database) = &self.database else { unreachable!() };
        let done = query_scalar("SELECT message FROM effects").fetch_all(&mut database.client().await).await.unwrap();
        let done: BTreeSet<String> = done.into_iter().collect();
        let missing: Vec<_> = traffic.succeeding.difference(&done).map(|id| self.notes(|other| other == id)).collect();
        format!("{given_back} given back by {drained:?}; without an effect: {missing:#?}")
    }

    /// The notes of the workers about messages.
    fn notes(&self, about: impl Fn(&str) -> bool) -> String {
        let notes = fs::read_to_string(self.crew[0].0.notes()).unwrap();
        let about = notes.lines().filter(|line| line.split_once(' ').is_some_and(|(id, _)| id == ALL || about(id)));
        about.collect::<Vec<_>>().join("\n")
    }

    /// Ends all workers when nothing is left.
    async fn end(&mut self) {
        for _ in 0..10 {
            // What waits for its backoff, or is with a consumer that is gone.
            sleep(2 * LEASE).await;
            for (_, worker) in &mut self.crew {
                self.reports += within("a drain", worker.take().unwrap().drain()).await;
            }
            if self.waiting().await == 0 {
                return;
            }
            self.respawn();
        }
        panic!("messages are left");
    }

    /// Each message has its effect once, or is a dead letter as planned, and each partition is in order.
    async fn judge(&self, traffic: &Traffic) {
        let Database::Postgres(database) = &self.database else { unreachable!() };
        let mut client = database.client().await;
        let effects = "SELECT message FROM effects ORDER BY position";
        let effects: Vec<String> = query_scalar(effects).fetch_all(&mut client).await.unwrap();
        let letters = "SELECT reason || ' ' || message_id FROM idempotent_records_dead";
        let letters: Vec<String> = query_scalar(letters).fetch_all(&mut client).await.unwrap();
        let mut seen = BTreeSet::new();
        let doubled: Vec<_> = effects.iter().filter(|&id| !seen.insert(id.clone())).collect();
        assert!(doubled.is_empty(), "more than one effect: {doubled:?}");
        let lost: Vec<_> = traffic.succeeding.difference(&seen).collect();
        let notes = || lost.iter().map(|id| self.notes(|other| other == **id)).collect::<Vec<_>>();
        assert!(lost.is_empty(), "no effect: {lost:?}, {:#?}", notes());
        assert_eq!(seen.len(), traffic.succeeding.len(), "effects of dead letters");
        let planned: BTreeSet<_> = traffic.poison.iter().map(|id| format!("permanent {id}")).collect();
        assert_eq!(letters.len(), planned.len());
        assert_eq!(letters.into_iter().collect::<BTreeSet<_>>(), planned);
        let mut dead = BTreeSet::new();
        for queue in [LOOSE, ORDERED] {
            dead.extend(self.broker.dead(queue).await.into_iter().map(|(id, _)| id));
        }
        assert_eq!(dead, traffic.poison);
        let mut numbers = BTreeMap::new();
        for id in effects.iter().filter(|id| id.starts_with('k')) {
            let (key, number) = id.split_once('-').unwrap();
            let number: u64 = number.parse().unwrap();
            if let Some(before) = numbers.insert(key, number) {
                let notes = || self.notes(|other| other.split_once('-').is_some_and(|(of, _)| of == key));
                assert!(before < number, "{id} after {before}:\n{}", notes());
            }
        }
    }
}

/// Says which step does not end. What it holds is dropped in the panic, so that logs are printed.
async fn within<T>(what: impl Debug, step: impl Future<Output = T>) -> T {
    let mut step = pin!(step);
    timeout(STEP, step.as_mut()).await.unwrap_or_else(|_| panic!("it does not end: {what:?}"))
}

/// Refuses and ends connections, for a while.
async fn cut(proxy: &Proxy, pause: Duration) {
    proxy.set(Fault::Refuse);
    proxy.cut();
    sleep(pause).await;
    proxy.set(Fault::None);
}
