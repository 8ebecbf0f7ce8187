//! Faults of the server, and of the network on the way to it.

use std::{
    future::{Future as _, poll_fn},
    pin::pin,
    task::Poll,
    time::Duration,
};

use idempotent_runtime::{
    Error, Idempotency, StoreErrorKind, in_transaction,
    store::{State, postgres::PostgresStore},
};
use idempotent_tests::{
    postgres_database::PostgresDatabase,
    proxy::{Fault, Proxy},
};
use sqlx::postgres::PgPoolOptions;

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

#[tokio::test]
async fn s47_a_statement_timeout_is_retryable_and_undone() {
    let (bank, runs) = (Bank::open().await, Runs::default());
    let mut other = bank.begin().await;
    deposit(&mut other, &bank, "a", 5, Then::Return, &runs).await.unwrap();
    let mut tx = bank.begin().await;
    effect(&mut tx, "before", 1).await.unwrap();
    sqlx::raw_sql("SET LOCAL statement_timeout = '100ms'").execute(&mut *tx).await.unwrap();
    assert_eq!(kind(deposit(&mut tx, &bank, "a", 5, Then::Return, &runs).await), StoreErrorKind::Unavailable);
    tx.commit().await.expect("the transaction is usable");
    other.commit().await.unwrap();
    assert_eq!((bank.effects("a").await, bank.effects("before").await), (1, 1));
}

#[tokio::test]
async fn s47_a_session_that_an_administrator_ends_leaves_nothing() {
    let (bank, runs) = (Bank::open().await, Runs::default());
    let mut tx = bank.begin().await;
    let pid: i32 = sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(&mut *tx).await.unwrap();
    deposit(&mut tx, &bank, "a", 5, Then::Return, &runs).await.unwrap();
    bank.database.execute(&format!("SELECT pg_terminate_backend({pid})")).await;
    assert_eq!(kind(deposit(&mut tx, &bank, "b", 5, Then::Return, &runs).await), StoreErrorKind::Unavailable);
    assert!(tx.commit().await.is_err());
    assert!(bank.record("deposit", "a").await.is_none());
    assert_eq!(bank.effects("a").await, 0);
    bank.deposit("a", &runs).await.unwrap();
    assert_eq!(bank.effects("a").await, 1);
}

/// The session ends between the function and the commit, or the reply to the commit is lost: the transaction is begun anew.
#[tokio::test]
async fn s47_a_lost_commit_is_found_out() {
    let (bank, runs) = (Bank::open().await, Runs::default());
    let mut tries = 0;
    let call = in_transaction(&bank.pool, |tx| {
        tries += 1;
        let (bank, runs, first) = (&bank, &runs, tries == 1);
        Box::pin(async move {
            let answer = deposit(tx.0, bank, "a", 5, Then::Return, runs).await;
            if first {
                let pid: i32 = sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(&mut **tx.0).await.unwrap();
                bank.database.execute(&format!("SELECT pg_terminate_backend({pid})")).await;
            }
            answer
        })
    });
    assert_eq!(call.await.unwrap(), "a: 5, attempt 1");
    assert_eq!((tries, runs.count(), bank.effects("a").await), (2, 2, 1));

    let proxy = Proxy::start(bank.database.address()).await;
    let pool = PgPoolOptions::new().connect(&bank.database.url_at(proxy.address())).await.unwrap();
    let mut tries = 0;
    let call = in_transaction(&pool, |tx| {
        tries += 1;
        let (bank, runs, proxy, first) = (&bank, &runs, &proxy, tries == 1);
        Box::pin(async move {
            let answer = deposit(tx.0, bank, "b", 5, Then::Return, runs).await;
            if first {
                // After the check that the transaction has not failed.
                proxy.set_after(1, Fault::CutBeforeReply);
            }
            answer
        })
    });
    assert_eq!(call.await.unwrap(), "b: 5, attempt 1");
    assert_eq!((tries, runs.count(), bank.effects("b").await), (2, 3, 1), "the second try replayed");
}

/// PostgreSQL would answer `COMMIT` of a failed transaction as a success, and roll back.
#[tokio::test]
async fn s47_a_transaction_that_has_failed_is_not_taken_for_committed() {
    let (bank, runs) = (Bank::open().await, Runs::default());
    let mut tries = 0;
    let call = in_transaction(&bank.pool, |tx| {
        tries += 1;
        let (bank, runs) = (&bank, &runs);
        Box::pin(async move {
            let answer = deposit(tx.0, bank, "a", 5, Then::Return, runs).await;
            let _ = sqlx::query("SELECT nothing FROM nowhere").execute(&mut **tx.0).await;
            answer
        })
    });
    assert_eq!(kind(call.await), StoreErrorKind::Refused);
    assert_eq!((tries, runs.count(), bank.effects("a").await), (1, 1, 0));
    assert!(bank.record("deposit", "a").await.is_none());
}

/// An error of the commit that every try would meet.
#[tokio::test]
async fn s47_a_commit_that_cannot_succeed_is_not_tried_again() {
    let (bank, runs) = (Bank::open().await, Runs::default());
    bank.database.execute("ALTER TABLE effects ADD CONSTRAINT once UNIQUE (name) DEFERRABLE INITIALLY DEFERRED").await;
    bank.database.execute("INSERT INTO effects VALUES ('a', 1)").await;
    let call = in_transaction(&bank.pool, |tx| Box::pin(deposit(tx.0, &bank, "a", 5, Then::Return, &runs)));
    assert!(call.await.is_err());
    assert_eq!((runs.count(), bank.effects("a").await), (1, 1));
}

#[tokio::test]
async fn s47_a_server_that_is_killed_keeps_what_was_committed() {
    let (mut bank, runs) = (Bank::on(PostgresDatabase::on_its_own_server().await).await, Runs::default());
    bank.deposit("committed", &runs).await.unwrap();
    let mut tx = bank.begin().await;
    deposit(&mut tx, &bank, "open", 5, Then::Return, &runs).await.unwrap();
    bank.database.server().restart().await;
    assert!(tx.commit().await.is_err());
    for (id, expected) in [("committed", 1_i64), ("open", 0)] {
        let mut client = bank.database.client().await;
        let count = sqlx::query_scalar("SELECT count(*) FROM effects WHERE name = $1").bind(id);
        assert_eq!(count.fetch_one(&mut client).await.ok(), Some(expected), "{id}");
    }
}

/// The most passes over all steps. A call waits more or less often, depending on how fast the answers come, so one pass may miss
/// the last step.
const MOST_PASSES: usize = 10;

/// The server is killed when a call has waited for it once, twice, … and it has done what was asked. Then the call goes
/// on, and is made again.
#[tokio::test]
async fn s47_a_server_that_is_killed_at_any_step_keeps_all_or_nothing() {
    let mut bank = Bank::on(PostgresDatabase::on_its_own_server().await).await;
    // Takes its time, so that every answer is waited for.
    let proxy = Proxy::start(bank.database.address()).await;
    proxy.set(Fault::Delay(Duration::from_millis(1)));
    let pool = PgPoolOptions::new().connect(&bank.database.url_at(proxy.address())).await.unwrap();
    let idempotency = bank.idempotency.clone();
    let call = async |id: &str| {
        let mut tx = pool.begin().await?;
        let name = id.to_owned();
        let answer = idempotency
            .call("deposit")
            .key(id)
            .arguments(&5)
            .in_transaction(&mut tx)
            .run(|tx| Box::pin(async move { Ok::<_, Failure>(effect(tx, &name, 1).await?) }));
        answer.await?;
        Ok::<_, Failure>(tx.commit().await?)
    };
    let (mut kept, mut lost) = (0, 0);
    let mut passes = 0..MOST_PASSES;
    while lost < 8 || kept < 1 {
        let pass = passes.next().unwrap_or_else(|| panic!("{lost} lost, {kept} kept"));
        for waits in 0.. {
            let id = format!("after {waits}, pass {pass}");
            let mut first = pin!(call(&id));
            let mut left = waits;
            let ended = poll_fn(|cx| match first.as_mut().poll(cx) {
                Poll::Ready(answer) => Poll::Ready(Some(answer)),
                Poll::Pending if left == 0 => Poll::Ready(None),
                Poll::Pending => {
                    left -= 1;
                    Poll::Pending
                }
            });
            if let Some(answer) = ended.await {
                answer.unwrap();
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
            bank.database.server().restart().await;
            let told = first.await;
            let (effects, record) = (bank.effects(&id).await, bank.record("deposit", &id).await);
            assert_eq!(
                record.map(|record| matches!(record.state, State::Done(_))),
                (effects == 1).then_some(true),
                "{id}"
            );
            assert!(told.is_err() || effects == 1, "{id}: what was told is lost");
            *(if effects == 1 { &mut kept } else { &mut lost }) += 1;
            call(&id).await.unwrap();
            assert_eq!(bank.effects(&id).await, 1, "{id}");
        }
    }
    println!("{lost} servers killed before the commit, {kept} after it");
}

/// The pool is the caller's: a call needs no other connection than the transaction's own.
#[tokio::test]
async fn s47_one_connection_is_enough() {
    let (mut bank, runs) = (Bank::open().await, Runs::default());
    let url = bank.database.url();
    let options = PgPoolOptions::new().max_connections(1).acquire_timeout(Duration::from_secs(1));
    bank.pool = options.connect(&url).await.unwrap();
    bank.idempotency = Idempotency::new(PostgresStore::new(bank.pool.clone()).unwrap());
    let mut tx = bank.begin().await;
    deposit(&mut tx, &bank, "a", 5, Then::Return, &runs).await.unwrap();
    deposit(&mut tx, &bank, "a", 5, Then::Return, &runs).await.unwrap();
    assert!(matches!(bank.pool.begin().await, Err(sqlx::Error::PoolTimedOut)), "it is the only one");
    tx.commit().await.unwrap();
    assert_eq!((runs.count(), bank.effects("a").await), (1, 1));
}

/// COMMIT is sent, and its answer lost: only the database knows whether it was applied. The retry finds out by claiming.
#[tokio::test]
async fn s47_a_commit_whose_reply_is_lost_is_resolved_by_the_retry() {
    for (fault, applied) in [(Fault::CutBeforeReply, true), (Fault::CutBeforeRequest, false)] {
        let (mut bank, runs) = (Bank::open().await, Runs::default());
        let proxy = Proxy::start(bank.database.address()).await;
        let url = bank.database.url_at(proxy.address());
        bank.pool = PgPoolOptions::new().max_connections(1).connect(&url).await.unwrap();
        let mut tx = bank.begin().await;
        let first = deposit(&mut tx, &bank, "a", 5, Then::Return, &runs).await.unwrap();
        proxy.set(fault);
        assert!(tx.commit().await.is_err());
        proxy.set(Fault::None);
        bank.pool = PgPoolOptions::new().connect(&bank.database.url()).await.unwrap();
        assert_eq!(bank.deposit("a", &runs).await.unwrap(), first);
        assert_eq!((runs.count(), bank.effects("a").await), (if applied { 1 } else { 2 }, 1), "applied: {applied}");
    }
}
