//! The process that consumes. It is the program of these tests, told by a variable to run this "test" only.
//!
//! It writes a line for each thing that a test may wait for: `effect ID`, `ack ID`, `retry ID`, `reject ID`, `unsettled ID`. A
//! last line has the [`Report`](crate::plan::Report). SIGTERM drains it.

use std::{
    env, fs,
    future::Future,
    io::{Read as _, Write as _},
    pin::pin,
    process::{abort, exit},
    sync::Arc,
    time::Duration,
};

use futures_util::Stream;
use idempotent_examples::{rabbitmq, redis_streams};
use idempotent_runtime::{
    Backoff, Execution, Idempotency,
    consumer::{BoxError, Dead, Delivery, Inbox, Limits, Message, Summary},
};
use sqlx::{
    postgres::PgPoolOptions,
    query,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy},
    net::{TcpListener, TcpStream},
    signal::unix::{SignalKind, signal},
    time::sleep,
};
use tokio_stream::StreamExt as _;

use crate::plan::{Order, PLAN, Plan, Point, Report, Source, Then, note};

const GROUP: &str = "billing";
const HANDLER: &str = "book";

/// Not a test: the worker, where a variable has its plan.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn worker() {
    let Ok(plan) = env::var(PLAN) else { return };
    let plan: Plan = serde_json::from_str(&plan).unwrap();
    // It does not outlive the tests, which hold the other end of its input.
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        exit(1);
    });
    let shutdown = async {
        signal(SignalKind::terminate()).unwrap().recv().await;
    };
    let mut shutdown = pin!(shutdown);
    let desk = Arc::new(Desk { plan: plan.clone() });
    // The harness has written the name of this test without an end of line.
    write("");
    let summary = match &plan.source {
        Source::Rabbitmq { url, queue } => {
            let deliveries = rabbitmq::Deliveries::new(url, queue, plan.prefetch);
            Box::pin(desk.consume(deliveries.stream(), shutdown.as_mut())).await
        }
        Source::Redis { url, stream } => {
            let deliveries = patient(async || {
                let consumer = redis_streams::Consumer {
                    stream: stream.clone(),
                    group: GROUP.to_owned(),
                    name: plan.name.clone(),
                    lease: plan.lease,
                };
                redis_streams::Deliveries::connect(url, consumer).await
            });
            tokio::select! {
                deliveries = deliveries => desk.consume(deliveries.stream(), shutdown.as_mut()).await,
                () = &mut shutdown => Some(Summary::default()),
            }
        }
    };
    let report = Report::from(summary.unwrap_or_default());
    write(&format!("report {}", serde_json::to_string(&report).unwrap()));
}

fn write(line: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}

/// Tries again until it works: servers come and go.
async fn patient<T, E: std::fmt::Display>(connect: impl AsyncFn() -> Result<T, E>) -> T {
    loop {
        match connect().await {
            Ok(connected) => return connected,
            Err(error) => {
                eprintln!("{error}");
                sleep(Duration::from_millis(200)).await;
            }
        }
    }
}

/// The error of the handler.
#[derive(Debug)]
enum Failed {
    Now,
    ForEver,
    Sql(sqlx::Error),
}

impl std::fmt::Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Now => f.write_str("it fails now"),
            Self::ForEver => f.write_str("it fails for ever"),
            Self::Sql(error) => write!(f, "{error}"),
        }
    }
}

struct Desk {
    plan: Plan,
}

impl Desk {
    /// Works deliveries off until it is told to shut down. `None` if that came before it could begin.
    async fn consume<D: Delivery>(
        self: Arc<Self>,
        deliveries: impl Stream<Item = D>,
        mut shutdown: impl Future<Output = ()> + Unpin,
    ) -> Option<Summary> {
        let plan = &self.plan;
        let idempotency = tokio::select! {
            idempotency = patient(async || Idempotency::connect(&plan.database).await) => idempotency,
            () = &mut shutdown => return None,
        };
        let inbox = Inbox::<Failed>::builder(idempotency, GROUP, HANDLER)
            .lease(plan.lease)
            .max_attempts(plan.max_attempts)
            .backoff(Backoff::exponential(plan.backoff, plan.backoff * 8))
            .permanent(|error| matches!(error, Failed::ForEver))
            .build()
            .unwrap();
        let watched = deliveries.map(|delivery| {
            self.reach(Point::Delivered);
            if self.plan.is_quiet {
                let count = delivery.deliveries().unwrap_or_default();
                self.note(&format!("delivered ({count})"), &id_of(&delivery));
            }
            Watched { inner: delivery, desk: Arc::clone(&self) }
        });
        let limits = Limits { concurrency: plan.concurrency, drain: plan.drain };
        let desk = Arc::clone(&self);
        let connections = u32::try_from(plan.concurrency).unwrap();
        let dies = plan.dies;
        if let Some(path) = plan.database.strip_prefix("sqlite://") {
            let options = SqliteConnectOptions::new()
                .filename(path)
                .busy_timeout(Duration::from_secs(20))
                .journal_mode(SqliteJournalMode::Wal)
                .synchronous(SqliteSynchronous::Full);
            let pool = SqlitePoolOptions::new().max_connections(connections).after_connect(move |connection, _| {
                Box::pin(async move {
                    reached(dies, Point::Claimed);
                    if dies == Some(Point::Ended) {
                        connection.lock_handle().await?.set_commit_hook(|| abort());
                    }
                    Ok(())
                })
            });
            let pool = pool.connect_lazy_with(options);
            let handler = inbox.run_in(&pool, watched, limits, shutdown, move |tx, message, run| {
                let desk = Arc::clone(&desk);
                Box::pin(async move {
                    let effect = desk.begin(message, &run);
                    let insert = query(INSERT).bind(effect.0).bind(effect.1).bind(&desk.plan.name);
                    insert.execute(&mut **tx.0).await.map_err(Failed::Sql)?;
                    desk.end(message, &run).await
                })
            });
            return Some(handler.await);
        }
        let url = if dies == Some(Point::Ended) { through_death(&plan.database).await } else { plan.database.clone() };
        let pool = PgPoolOptions::new().max_connections(connections).after_connect(move |_, _| {
            reached(dies, Point::Claimed);
            Box::pin(async { Ok(()) })
        });
        let pool = pool.connect_lazy(&url).unwrap();
        let handler = inbox.run_in(&pool, watched, limits, shutdown, move |tx, message, run| {
            let desk = Arc::clone(&desk);
            Box::pin(async move {
                let effect = desk.begin(message, &run);
                let insert = query(INSERT).bind(effect.0).bind(effect.1).bind(&desk.plan.name);
                insert.execute(&mut **tx.0).await.map_err(Failed::Sql)?;
                desk.end(message, &run).await
            })
        });
        Some(handler.await)
    }

    /// Puts a run on record, outside of its transaction.
    fn begin<'m>(&self, message: Message<'m>, run: &Execution) -> (&'m str, i64) {
        let (id, attempt) = (message.id.unwrap_or_default(), run.attempt());
        let mut runs = fs::OpenOptions::new().create(true).append(true).open(&self.plan.runs).unwrap();
        runs.write_all(format!("{id} {attempt}\n").as_bytes()).unwrap();
        (id, i64::from(attempt))
    }

    /// Does what the message says, after its effect.
    async fn end(&self, message: Message<'_>, run: &Execution) -> Result<(), Failed> {
        self.reach(Point::Effect);
        let order: Order = serde_json::from_slice(message.payload).unwrap();
        if order.then == Then::Abort {
            // Others are under way by now.
            sleep(Duration::from_millis(order.hold_ms)).await;
            abort();
        }
        self.say("effect", message.id.unwrap_or_default());
        sleep(Duration::from_millis(order.hold_ms)).await;
        match order.then {
            Then::Fail => Err(Failed::Now),
            Then::FailOnce if run.attempt() == 1 => Err(Failed::Now),
            Then::FailForEver => Err(Failed::ForEver),
            Then::Succeed | Then::FailOnce | Then::Abort => Ok(()),
        }
    }

    fn reach(&self, point: Point) {
        reached(self.plan.dies, point);
    }

    fn say(&self, what: &str, id: &str) {
        if self.plan.is_quiet {
            self.note(what, id);
        } else {
            write(&format!("{what} {id}"));
        }
    }

    /// Puts it on record for a test that fails.
    fn note(&self, what: &str, id: &str) {
        note(&self.plan.notes(), id, &format!("{what} by {}, process {}", self.plan.name, std::process::id()));
    }
}

const INSERT: &str = "INSERT INTO effects (message, attempt, worker) VALUES ($1, $2, $3)";

fn reached(dies: Option<Point>, point: Point) {
    if dies == Some(point) {
        abort();
    }
}

/// Leads to the database, and ends this process when it is told to commit.
async fn through_death(url: &str) -> String {
    let (before, rest) = url.split_once('@').unwrap();
    let (target, database) = rest.split_once('/').unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let ours = format!("{before}@{}/{database}", listener.local_addr().unwrap());
    let target = target.to_owned();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = TcpStream::connect(&target).await.unwrap();
            let (mut from_client, mut to_client) = client.into_split();
            let (mut from_server, mut to_server) = server.into_split();
            tokio::spawn(async move { copy(&mut from_server, &mut to_client).await });
            tokio::spawn(async move {
                let mut buffer = vec![0; 64 * 1024];
                while let Ok(len @ 1..) = from_client.read(&mut buffer).await {
                    if buffer[..len].windows(7).any(|window| window == b"COMMIT\0") {
                        abort();
                    }
                    to_server.write_all(&buffer[..len]).await.unwrap();
                }
            });
        }
    });
    ours
}

/// A delivery that tells how it is settled.
struct Watched<D> {
    inner: D,
    desk: Arc<Desk>,
}

impl<D: Delivery> Delivery for Watched<D> {
    fn message(&self) -> Message<'_> {
        self.inner.message()
    }

    fn deliveries(&self) -> Option<u32> {
        self.inner.deliveries()
    }

    fn visibility(&self) -> Option<Duration> {
        self.inner.visibility()
    }

    fn extend(&self) -> impl Future<Output = Result<(), BoxError>> + Send {
        self.inner.extend()
    }

    async fn ack(self) -> Result<(), BoxError> {
        let Self { inner, desk } = self;
        let settling = Settling::new(&desk, &inner);
        desk.reach(Point::Committed);
        let answer = inner.ack().await;
        desk.reach(Point::Acked);
        settling.ended("ack", answer)
    }

    async fn retry(self, after: Duration) -> Result<(), BoxError> {
        let Self { inner, desk } = self;
        let settling = Settling::new(&desk, &inner);
        settling.ended("retry", inner.retry(after).await)
    }

    async fn reject(self, why: &Dead) -> Result<(), BoxError> {
        let Self { inner, desk } = self;
        let settling = Settling::new(&desk, &inner);
        settling.ended("reject", inner.reject(why).await)
    }
}

/// Tells that a delivery is unsettled, also where nobody waits for the answer any more.
struct Settling<'a> {
    desk: &'a Desk,
    id: String,
    how: &'static str,
}

impl<'a> Settling<'a> {
    fn new(desk: &'a Desk, delivery: &impl Delivery) -> Self {
        Self { desk, id: id_of(delivery), how: "unsettled" }
    }

    fn ended(mut self, how: &'static str, answer: Result<(), BoxError>) -> Result<(), BoxError> {
        if answer.is_ok() {
            self.how = how;
        }
        answer
    }
}

impl Drop for Settling<'_> {
    fn drop(&mut self) {
        self.desk.say(self.how, &self.id);
    }
}

fn id_of(delivery: &impl Delivery) -> String {
    delivery.message().id.unwrap_or_default().to_owned()
}
