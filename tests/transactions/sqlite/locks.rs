//! SQLite's one writer, its settings and its snapshots.

use std::{future::pending, time::Duration};

use idempotent_runtime::{Error, Idempotency, Operation, StoreErrorKind};
use tokio::{sync::oneshot, time::sleep};

use super::{
    support::Bank,
    transfer::{Failure, Runs, Then, deposit, effect},
};

fn kind(answer: Result<String, Failure>) -> StoreErrorKind {
    match answer {
        Err(Failure::Idempotency(Error::Store(error))) => error.kind(),
        other => panic!("{other:?}"),
    }
}

/// They are what keeps half of a call from being committed.
#[tokio::test]
async fn s48_foreign_keys_have_to_be_on() {
    let (bank, runs) = (Bank::with(|options| options.foreign_keys(false)).await, Runs::default());
    let mut tx = bank.begin().await;
    assert_eq!(kind(deposit(&mut tx, &bank, "a", 5, Then::Return, &runs).await), StoreErrorKind::Refused);
    assert_eq!(runs.count(), 0);
}

/// It cannot write any more, however long it waits: a new transaction can.
#[tokio::test]
async fn s48_a_transaction_that_read_what_has_changed_begins_anew() {
    let (bank, runs) = (Bank::open().await, Runs::default());
    let mut outdated = bank.begin().await;
    sqlx::query("SELECT count(*) FROM effects").fetch_one(&mut *outdated).await.unwrap();
    let first = bank.deposit("a", &runs).await.unwrap();
    match deposit(&mut outdated, &bank, "a", 5, Then::Return, &runs).await {
        Err(Failure::Idempotency(error)) => assert!(error.is_retryable(), "{error:?}"),
        other => panic!("{other:?}"),
    }
    drop(outdated);
    assert_eq!(bank.deposit("a", &runs).await.unwrap(), first);
    assert_eq!((runs.count(), bank.effects("a").await), (1, 1));
}

#[tokio::test]
async fn s48_a_transaction_that_holds_the_lock_need_not_wait() {
    let (bank, runs) = (Bank::open().await, Runs::default());
    for _ in 0..2 {
        let mut tx = bank.pool.begin_with("BEGIN IMMEDIATE").await.unwrap();
        assert_eq!(deposit(&mut tx, &bank, "a", 5, Then::Return, &runs).await.unwrap(), "a: 5, attempt 1");
        tx.commit().await.unwrap();
    }
    assert_eq!((runs.count(), bank.effects("a").await), (1, 1));
}

#[tokio::test]
async fn s48_the_callers_own_busy_timeout_stays() {
    let (bank, runs) = (Bank::open().await, Runs::default());
    let mut other = bank.begin().await;
    effect(&mut other, "other", 1).await.unwrap();
    let mut tx = bank.begin().await;
    let before: i64 = sqlx::query_scalar("PRAGMA busy_timeout").fetch_one(&mut *tx).await.unwrap();
    let operation = idempotent_runtime::Operation::new("wait").wait(std::time::Duration::from_millis(50));
    let answer = bank
        .idempotency
        .call(operation)
        .key("a")
        .in_transaction(&mut tx)
        .run(|_| Box::pin(async { Ok::<_, Failure>(String::new()) }));
    assert_eq!(kind(answer.await), StoreErrorKind::Unavailable);
    let after: i64 = sqlx::query_scalar("PRAGMA busy_timeout").fetch_one(&mut *tx).await.unwrap();
    assert_eq!((before, after, runs.count()), (20_000, 20_000, 0));
    drop(bank.file.clone());
}

/// The connection goes back to its pool, to somebody who waits as long as it was told.
#[tokio::test]
async fn s48_the_callers_own_busy_timeout_stays_though_the_call_is_dropped() {
    let (bank, runs) = (Bank::open().await, Runs::default());
    for times in 0..12 {
        let mut other = bank.begin().await;
        effect(&mut other, "other", 1).await.unwrap();
        let mut tx = bank.begin().await;
        let operation = idempotent_runtime::Operation::new("wait").wait(std::time::Duration::from_millis(100));
        let answer = bank
            .idempotency
            .call(operation)
            .key("a")
            .in_transaction(&mut tx)
            .run(|_| Box::pin(async { Ok::<_, Failure>(String::new()) }));
        super::cancellation::woken(answer, times).await;
        other.rollback().await.unwrap();
        let after: i64 = sqlx::query_scalar("PRAGMA busy_timeout").fetch_one(&mut *tx).await.unwrap();
        assert_eq!((after, runs.count()), (20_000, 0), "dropped after {times}");
    }
}

/// Claims a key as a process does that is then killed: nobody renews or ends the run.
fn killed(url: String, operation: Operation) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async move {
        let idempotency = Idempotency::connect(&url).await.unwrap();
        let (begun, has_begun) = oneshot::channel();
        let mut call = Box::pin(idempotency.call(operation).key("a").run(async move {
            begun.send(()).unwrap();
            pending::<Result<i32, Failure>>().await
        }));
        tokio::select! {
            _ = &mut call => unreachable!("it is pending"),
            begun = has_begun => begun.unwrap(),
        }
        std::mem::forget(call);
    });
}

/// While the transaction waited for the lock, the owner of the run may have done so, too, and is to come first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s48_what_lapses_while_a_transaction_waits_is_in_flight() {
    let (bank, lease) = (Bank::open().await, Duration::from_millis(600));
    let operation = move || Operation::new("mail").lease(lease).ttl(Duration::from_secs(60));
    let url = bank.file.url();
    tokio::task::spawn_blocking(move || killed(url, operation())).await.unwrap();
    let mut other = bank.begin().await;
    effect(&mut other, "other", 1).await.unwrap();
    let call = |bank: &Bank| {
        let (pool, idempotency) = (bank.pool.clone(), bank.idempotency.clone());
        tokio::spawn(async move {
            let mut tx = pool.begin().await.unwrap();
            let call = idempotency.call(operation()).key("a").in_transaction(&mut tx);
            let answer = call.run(|_| Box::pin(async { Ok::<_, Failure>(2) })).await;
            tx.commit().await.unwrap();
            answer
        })
    };
    let waits = call(&bank);
    sleep(lease * 3 / 2).await;
    assert!(!waits.is_finished());
    other.rollback().await.unwrap();
    match waits.await.unwrap() {
        Err(Failure::Idempotency(Error::InFlight { .. })) => {}
        answer => panic!("{answer:?}"),
    }
    assert_eq!(call(&bank).await.unwrap().unwrap(), 2, "the lock is free, and nobody has renewed");
}
