//! Annotated functions that write effects, and the books that say what is there.

use std::{
    future::pending,
    sync::atomic::{AtomicUsize, Ordering},
};

use idempotent_runtime::{Error, Execution, Record, idempotent};
use serde::{Deserialize, Serialize};
use sqlx::Transaction;
use tokio::task::yield_now;

use super::support::{Bank, Db};

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Failure {
    Declined,
    Sql(String),
    #[serde(skip)]
    Idempotency(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Idempotency(error)
    }
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        Self::Sql(error.to_string())
    }
}

/// The step that the body takes after its effect.
#[derive(Clone, Copy)]
pub(crate) enum Then {
    Return,
    Decline,
    Break,
    Panic,
    Hang,
    EndTheTransaction,
}

/// Counts the bodies that started.
#[derive(Default)]
pub(crate) struct Runs(AtomicUsize);

impl Runs {
    pub(crate) fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

pub(crate) async fn effect(connection: &mut super::support::Connection, name: &str, cents: i64) -> sqlx::Result<()> {
    let insert = sqlx::query("INSERT INTO effects (name, cents) VALUES ($1, $2)").bind(name.to_owned()).bind(cents);
    insert.execute(connection).await.map(drop)
}

async fn body(tx: &mut Transaction<'_, Db>, id: &str, cents: i64, then: Then, runs: &Runs) -> Result<String, Failure> {
    runs.0.fetch_add(1, Ordering::SeqCst);
    // The body has two await points, however fast the database answers.
    yield_now().await;
    effect(tx, id, cents).await?;
    yield_now().await;
    match then {
        Then::Return => {}
        Then::Decline => return Err(Failure::Declined),
        Then::Break => {
            sqlx::query("SELECT nothing FROM nowhere").execute(&mut **tx).await?;
        }
        Then::Panic => panic!("the body panics"),
        Then::Hang => pending().await,
        Then::EndTheTransaction => {
            sqlx::raw_sql("COMMIT").execute(&mut **tx).await?;
        }
    }
    let attempt = Execution::current().expect("an execution").attempt();
    Ok(format!("{id}: {cents}, attempt {attempt}"))
}

/// An `Err` frees the key.
#[idempotent(key = id, name = "deposit", transaction = tx, store = bank.idempotency, skip(bank, then, runs))]
pub(crate) async fn deposit(
    tx: &mut Transaction<'_, Db>,
    bank: &Bank,
    id: &str,
    cents: i64,
    then: Then,
    runs: &Runs,
) -> Result<String, Failure> {
    body(tx, id, cents, then, runs).await
}

/// The error of a declined card is kept.
#[idempotent(
    key = id,
    name = "withdraw",
    errors = is_final,
    transaction = tx,
    store = bank.idempotency,
    skip(bank, then, runs)
)]
pub(crate) async fn withdraw(
    tx: &mut Transaction<'_, Db>,
    bank: &Bank,
    id: &str,
    cents: i64,
    then: Then,
    runs: &Runs,
) -> Result<String, Failure> {
    body(tx, id, -cents, then, runs).await
}

fn is_final(failure: &Failure) -> bool {
    matches!(failure, Failure::Declined)
}

/// Makes one effect, in a transaction that is open on a bare connection.
#[idempotent(key = id, name = "count", transaction = connection, store = bank.idempotency, skip(bank))]
pub(crate) async fn count(connection: &mut super::support::Connection, bank: &Bank, id: &str) -> Result<i64, Failure> {
    effect(connection, id, 1).await?;
    Ok(1)
}

impl Bank {
    /// Counts the effects that are committed under a name.
    pub(crate) async fn effects(&self, name: &str) -> i64 {
        let count = sqlx::query_scalar("SELECT count(*) FROM effects WHERE name = $1").bind(name.to_owned());
        count.fetch_one(&self.pool).await.expect("a count")
    }

    pub(crate) async fn record(&self, operation: &str, id: &str) -> Option<Record> {
        self.idempotency.inspect(operation, id).await.expect("an answer")
    }

    /// A deposit in a transaction of its own.
    pub(crate) async fn deposit(&self, id: &str, runs: &Runs) -> Result<String, Failure> {
        let mut tx = self.begin().await;
        let answer = deposit(&mut tx, self, id, 5, Then::Return, runs).await?;
        tx.commit().await?;
        Ok(answer)
    }
}
