//! A process that makes idempotent calls until it dies. See [`idempotent_tests::doomed`].

use std::{io::Write as _, sync::Arc, time::Duration};

use idempotent_runtime::{
    Error, Execution, Idempotency, Reconciled, Store,
    consumer::{Inbox, Limits},
    idempotent, step,
    store::{postgres::PostgresStore, redis::RedisStore, sqlite::SqliteStore},
    testing::ScriptedBroker,
};
use idempotent_tests::doomed::{self, Doom, DoomedStore, Function, Plan, Report};
use sqlx::{PgPool, SqlitePool};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    task::{JoinSet, yield_now},
    time::sleep,
};

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let plan = std::env::args().nth(1).ok_or("a plan is missing")?;
    let plan: Plan = serde_json::from_str(&plan)?;
    let store = connect(&plan.url).await?;
    let doom = Doom::new(plan);
    let worker = Arc::new(Worker { idempotency: Idempotency::new(DoomedStore::new(store, doom.clone())), doom });

    say("ready")?;
    BufReader::new(tokio::io::stdin()).read_line(&mut String::new()).await?;

    let mut calls = JoinSet::new();
    for _ in 0..worker.doom.plan().callers {
        let worker = Arc::clone(&worker);
        calls.spawn(async move { worker.call().await });
    }
    let answers = calls.join_all().await;
    say(&serde_json::to_string(&Report { answers, points: worker.doom.points() })?)?;
    Ok(())
}

async fn connect(url: &str) -> Result<Arc<dyn Store>, Box<dyn std::error::Error>> {
    Ok(match url.split_once(':').map(|(scheme, _)| scheme) {
        Some("redis" | "redis+cluster") => Arc::new(RedisStore::connect(url).await?),
        Some("sqlite") => Arc::new(SqliteStore::connect(url).await?),
        _ => Arc::new(PostgresStore::connect(url).await?),
    })
}

struct Worker {
    idempotency: Idempotency,
    doom: Doom,
}

impl Worker {
    /// Calls the function. A question is asked again until it is answered.
    async fn call(&self) -> Result<Vec<u32>, String> {
        let key = &self.doom.plan().key;
        loop {
            let answer = match self.doom.plan().function {
                Function::Steps => steps(self, key).await,
                Function::Reconcile => reconcile(self, key).await,
                Function::Replay => self.replay(key).await,
            };
            match answer {
                Err(Failure::Idempotency(Error::Abandoned { may_retry: true, .. })) => {
                    sleep(Duration::from_millis(2)).await;
                }
                answer => return answer.map_err(|failure| failure.code().to_owned()),
            }
        }
    }

    /// An effect: its begin and its end are in the ledger. Its value is the process.
    async fn effect(&self, name: &str) -> Result<u32, Failure> {
        self.doom.write(&format!("begun {name}"))?;
        yield_now().await;
        self.doom.write(&format!("finished {name}"))?;
        Ok(self.doom.plan().process)
    }

    /// Has the dead letter of this message replayed, and consumes nothing but that until it is gone.
    async fn replay(&self, key: &str) -> Result<Vec<u32>, Failure> {
        let inbox = Inbox::<Failure>::builder(self.idempotency.clone(), doomed::GROUP, key);
        let inbox = inbox.lease(Duration::from_secs(30)).build().map_err(|_| Failure::Refused)?;
        for letter in inbox.dead_letters(0, 10).await?.into_iter().filter(|letter| !letter.is_replaying) {
            inbox.replay(letter.id).await?;
        }
        let gone = async {
            while !inbox.dead_letters(0, 1).await.is_ok_and(|letters| letters.is_empty()) {
                sleep(Duration::from_millis(20)).await;
            }
        };
        let (doom, broker, limits) = (self.doom.clone(), ScriptedBroker::new(), Limits::new(1));
        let url = &*self.doom.plan().url;
        let summary = if url.starts_with("sqlite") {
            let pool = SqlitePool::connect(url).await.map_err(|_| Failure::Refused)?;
            let handler = inbox.run_in(&pool, broker.deliveries(), limits, gone, move |tx, _, run| {
                let doom = doom.clone();
                Box::pin(async move {
                    doom.write(&format!("begun {}", run.attempt()))?;
                    let plan = doom.plan();
                    let insert = sqlx::query(INSERT).bind(&plan.key).bind(plan.process).bind(run.attempt());
                    insert.execute(&mut **tx.0).await.map_err(|_| Failure::Refused)?;
                    Ok(doom.write("finished")?)
                })
            });
            handler.await
        } else {
            let pool = PgPool::connect(url).await.map_err(|_| Failure::Refused)?;
            let handler = inbox.run_in(&pool, broker.deliveries(), limits, gone, move |tx, _, run| {
                let doom = doom.clone();
                Box::pin(async move {
                    doom.write(&format!("begun {}", run.attempt()))?;
                    let plan = doom.plan();
                    let (process, attempt) = (i64::from(plan.process), i64::from(run.attempt()));
                    let insert = sqlx::query(INSERT).bind(&plan.key).bind(process).bind(attempt);
                    insert.execute(&mut **tx.0).await.map_err(|_| Failure::Refused)?;
                    Ok(doom.write("finished")?)
                })
            });
            handler.await
        };
        Ok(vec![u32::try_from(summary.done).unwrap_or(u32::MAX)])
    }

    fn end<T>(&self, value: T) -> Result<T, Failure> {
        if self.doom.plan().fails { Err(Failure::Refused) } else { Ok(value) }
    }
}

const INSERT: &str = "INSERT INTO effects (message, process, attempt) VALUES ($1, $2, $3)";

#[derive(Debug)]
enum Failure {
    Idempotency(Error),
    Ledger,
    Refused,
}

impl Failure {
    fn code(&self) -> &'static str {
        match self {
            Self::Idempotency(error) => error.code(),
            Self::Ledger => "ledger",
            Self::Refused => "refused",
        }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.code())
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Idempotency(error)
    }
}

impl From<std::io::Error> for Failure {
    fn from(_: std::io::Error) -> Self {
        Self::Ledger
    }
}

#[idempotent(name = "doomed.steps", key = key, store = worker.idempotency, skip(worker), lease = "30s")]
async fn steps(worker: &Worker, key: &str) -> Result<Vec<u32>, Failure> {
    let charge = step("charge", worker.effect("charge")).await?;
    let (ship, mail) = tokio::try_join!(step("ship", worker.effect("ship")), step("mail", worker.effect("mail")))?;
    worker.end(vec![charge, ship, mail])
}

#[idempotent(
    name = "doomed.reconcile",
    key = key,
    store = worker.idempotency,
    skip(worker),
    lease = "30s",
    wait = "30s",
    max_attempts = 20,
    abandoned = reconcile(find)
)]
async fn reconcile(worker: &Worker, key: &str) -> Result<Vec<u32>, Failure> {
    worker.doom.write("body")?;
    yield_now().await;
    worker.end(())?;
    Ok(vec![worker.effect("charge").await?])
}

async fn find(_: &Execution, worker: &Worker, _: &str) -> Result<Reconciled<Vec<u32>>, Failure> {
    worker.doom.write("asked")?;
    yield_now().await;
    let lines = doomed::read(&worker.doom.plan().ledger)?;
    let said = lines.iter().filter(|line| line.what == "said unknown").count();
    let charge = lines.iter().find(|line| line.what == "finished charge");
    let unknown = worker.doom.plan().unknown;
    let has_died = lines.iter().any(|line| line.what.starts_with("died before said"));
    if said < unknown || unknown > 0 && !has_died {
        worker.doom.write("said unknown")?;
        return Ok(Reconciled::Unknown);
    }
    Ok(match charge {
        Some(charge) => {
            worker.doom.write("said done")?;
            Reconciled::Done(vec![charge.process])
        }
        None => {
            worker.doom.write("said not done")?;
            Reconciled::NotDone
        }
    })
}

fn say(line: &str) -> std::io::Result<()> {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{line}")?;
    stdout.flush()
}
