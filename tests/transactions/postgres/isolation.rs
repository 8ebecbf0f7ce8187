//! Isolation levels, and the settings of the caller's session.

use std::{sync::Arc, time::Duration};

use idempotent_runtime::{Error, Operation, StoreErrorKind};

use super::{
    support::Bank,
    transfer::{Failure, Runs, Then, deposit, effect},
};

async fn begin(bank: &Bank, level: &'static str) -> sqlx::Transaction<'static, sqlx::Postgres> {
    bank.pool.begin_with(level).await.expect("a transaction")
}

/// A transaction with an old snapshot loses. Its caller is told so, and gets the result in a new transaction.
#[tokio::test]
async fn s41_a_loser_of_serialization_may_try_again() {
    for level in ["BEGIN ISOLATION LEVEL REPEATABLE READ", "BEGIN ISOLATION LEVEL SERIALIZABLE"] {
        let (bank, runs) = (Bank::open().await, Runs::default());
        let mut loser = begin(&bank, level).await;
        // The snapshot is taken by the first statement.
        effect(&mut loser, "before", 1).await.unwrap();
        let mut winner = begin(&bank, level).await;
        let first = deposit(&mut winner, &bank, "a", 5, Then::Return, &runs).await.unwrap();
        winner.commit().await.unwrap();

        match deposit(&mut loser, &bank, "a", 5, Then::Return, &runs).await {
            Err(Failure::Idempotency(Error::Store(error))) => {
                assert_eq!(error.kind(), StoreErrorKind::Unavailable);
                assert!(error.is_retryable());
            }
            other => panic!("{level}: {other:?}"),
        }
        drop(loser);
        let mut again = begin(&bank, level).await;
        assert_eq!(deposit(&mut again, &bank, "a", 5, Then::Return, &runs).await.unwrap(), first);
        again.commit().await.unwrap();
        assert_eq!((runs.count(), bank.effects("a").await), (1, 1));
    }
}

/// The duplicate already waits when the first commits.
#[tokio::test]
async fn s41_a_waiting_loser_of_serialization_may_try_again() {
    for level in ["BEGIN ISOLATION LEVEL REPEATABLE READ", "BEGIN ISOLATION LEVEL SERIALIZABLE"] {
        let (bank, runs) = (Arc::new(Bank::open().await), Arc::new(Runs::default()));
        let mut winner = begin(&bank, level).await;
        deposit(&mut winner, &bank, "a", 5, Then::Return, &runs).await.unwrap();
        let loser = {
            let (bank, runs) = (bank.clone(), runs.clone());
            tokio::spawn(async move {
                let mut tx = begin(&bank, level).await;
                deposit(&mut tx, &bank, "a", 5, Then::Return, &runs).await
            })
        };
        blocked(&bank, 1).await;
        winner.commit().await.unwrap();
        match loser.await.unwrap() {
            Err(Failure::Idempotency(error)) => assert!(error.is_retryable(), "{level}: {error:?}"),
            other => panic!("{level}: {other:?}"),
        }
        assert_eq!((runs.count(), bank.effects("a").await), (1, 1));
    }
}

/// Until this many sessions wait for a lock.
async fn blocked(bank: &Bank, sessions: i64) {
    let count = "SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event_type = 'Lock'";
    loop {
        let waiting: i64 = sqlx::query_scalar(count).fetch_one(&bank.pool).await.expect("a count");
        if waiting >= sessions {
            return;
        }
        tokio::task::yield_now().await;
    }
}

/// Effects that conflict with each other, not with a record: the database lets one of them commit.
#[tokio::test]
async fn s41_write_skew_is_refused_with_its_records() {
    let (bank, runs) = (Bank::open().await, Runs::default());
    let level = "BEGIN ISOLATION LEVEL SERIALIZABLE";
    let (mut one, mut two) = (begin(&bank, level).await, begin(&bank, level).await);
    for tx in [&mut one, &mut two] {
        sqlx::query("SELECT sum(cents) FROM effects").fetch_one(&mut **tx).await.unwrap();
    }
    deposit(&mut one, &bank, "a", 5, Then::Return, &runs).await.unwrap();
    let second = deposit(&mut two, &bank, "b", 5, Then::Return, &runs).await;
    let committed = [one.commit().await.is_ok(), second.is_ok() && two.commit().await.is_ok()];
    assert_eq!(committed, [true, false], "{second:?}");
    for (id, kept) in [("a", 1), ("b", 0)] {
        assert_eq!(bank.effects(id).await, kept);
        assert_eq!(bank.record("deposit", id).await.is_some(), kept == 1);
    }
}

#[tokio::test]
async fn s41_the_callers_own_lock_timeout_stays() {
    let (bank, runs) = (Bank::open().await, Runs::default());
    let mut other = bank.begin().await;
    deposit(&mut other, &bank, "taken", 5, Then::Return, &runs).await.unwrap();
    let mut tx = bank.begin().await;
    sqlx::raw_sql("SET LOCAL lock_timeout = '1234ms'").execute(&mut *tx).await.unwrap();
    let inside = bank.idempotency.call("show").key("a").in_transaction(&mut tx).run(|tx| Box::pin(lock_timeout(tx)));
    assert_eq!(inside.await.unwrap(), "1234ms");
    for (id, expected) in [("a", true), ("a", true), ("taken", false)] {
        let operation = Operation::new("deposit").wait(Duration::from_millis(50));
        let answer = bank
            .idempotency
            .call(operation)
            .key(id)
            .in_transaction(&mut tx)
            .run(|_| Box::pin(async { Ok::<_, Failure>(String::new()) }));
        let answer = answer.await;
        assert_eq!(answer.is_ok(), expected, "{id}: {answer:?}");
        assert_eq!(lock_timeout(&mut tx).await.unwrap(), "1234ms", "{id}");
    }
}

async fn lock_timeout(tx: &mut sqlx::Transaction<'_, sqlx::Postgres>) -> Result<String, Failure> {
    Ok(sqlx::query_scalar("SHOW lock_timeout").fetch_one(&mut **tx).await?)
}
