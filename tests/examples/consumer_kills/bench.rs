//! A broker with one queue, a database, and the workers between them.

use std::{
    collections::BTreeMap,
    fs,
    path::PathBuf,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use idempotent_tests::{database::Database, proxy::Proxy};
use tempfile::TempDir;

use crate::{
    broker::{Broker, Sent},
    plan::{Order, Plan, Then, Worker},
};

/// Short, since tests wait for its end.
pub(crate) const LEASE: Duration = Duration::from_secs(1);

static QUEUES: AtomicU32 = AtomicU32::new(0);

pub(crate) struct Bench {
    pub(crate) broker: Broker,
    pub(crate) database: Database,
    pub(crate) queue: String,
    pub(crate) max_attempts: u32,
    dir: TempDir,
}

impl Bench {
    pub(crate) async fn new(broker: Broker, database: Database) -> Self {
        Self::with_attempts(broker, database, 5).await
    }

    pub(crate) async fn with_attempts(broker: Broker, database: Database, max_attempts: u32) -> Self {
        Self::with_queue(broker, database, max_attempts, false).await
    }

    /// One whose messages have partitions.
    pub(crate) async fn ordered(broker: Broker, database: Database) -> Self {
        Self::with_queue(broker, database, 5, true).await
    }

    async fn with_queue(broker: Broker, database: Database, max_attempts: u32, is_ordered: bool) -> Self {
        let queue = format!("orders-{}", QUEUES.fetch_add(1, Ordering::Relaxed));
        broker.create(&queue, max_attempts, is_ordered).await;
        create_effects(&database).await;
        Self { broker, database, queue, max_attempts, dir: tempfile::tempdir().unwrap() }
    }

    /// A worker that does nothing out of the ordinary, and tries again at once.
    pub(crate) fn plan(&self, name: &str, through: Option<&Proxy>) -> Plan {
        Plan {
            name: name.to_owned(),
            source: self.broker.source(&self.queue, through),
            database: self.database.url(),
            runs: self.runs_path(),
            lease: LEASE,
            max_attempts: self.max_attempts,
            backoff: Duration::from_millis(20),
            concurrency: 8,
            prefetch: 20,
            drain: Duration::from_secs(20),
            dies: None,
            is_quiet: false,
        }
    }

    pub(crate) fn start(&self, plan: &Plan) -> Worker {
        Worker::start(plan, &self.dir.path().join(format!("{}.log", plan.name)))
    }

    pub(crate) async fn send(&self, id: &str, hold_ms: u64, then: Then) {
        self.broker.send(&self.queue, &[message(id, hold_ms, then)]).await;
    }

    fn runs_path(&self) -> PathBuf {
        self.dir.path().join("runs")
    }

    /// The attempts of each message that a handler has begun, in their order.
    pub(crate) fn runs(&self) -> BTreeMap<String, Vec<u32>> {
        let mut runs = BTreeMap::<_, Vec<u32>>::new();
        for line in fs::read_to_string(self.runs_path()).unwrap_or_default().lines() {
            let (id, attempt) = line.split_once(' ').unwrap();
            runs.entry(id.to_owned()).or_default().push(attempt.parse().unwrap());
        }
        runs
    }

    /// The number of effects of a message.
    pub(crate) async fn effects(&self, id: &str) -> i64 {
        self.database.number(&format!("SELECT count(*) FROM effects WHERE message = '{id}'")).await
    }

    /// The number of dead letters in the database for this reason.
    pub(crate) async fn letters(&self, reason: &str) -> i64 {
        let sql = format!("SELECT count(*) FROM idempotent_records_dead WHERE reason = '{reason}'");
        self.database.number(&sql).await
    }

    /// Nothing is left, and these are the broker's dead letters.
    pub(crate) async fn assert_settled(&self, dead: &[&str]) {
        self.broker.wait_until_empty(&self.queue).await;
        let mut found: Vec<_> = self.broker.dead(&self.queue).await.into_iter().map(|(id, _)| id).collect();
        found.sort();
        assert_eq!(found, dead);
    }
}

pub(crate) async fn create_effects(database: &Database) {
    let position = match database {
        Database::Postgres(_) => "bigserial",
        Database::Sqlite(_) => "integer PRIMARY KEY",
    };
    let columns = "message text NOT NULL, attempt bigint NOT NULL, worker text NOT NULL";
    database.execute(&format!("CREATE TABLE effects (position {position}, {columns})")).await;
}

pub(crate) fn message(id: &str, hold_ms: u64, then: Then) -> Sent {
    let payload = serde_json::to_string(&Order { hold_ms, then }).unwrap();
    Sent { id: id.to_owned(), payload, partition: None }
}
