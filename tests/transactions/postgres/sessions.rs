//! Roles, schemas, and settings of the caller's session.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use idempotent_runtime::{Error, Idempotency, Operation, StoreErrorKind, store::postgres::PostgresStore};
use idempotent_tests::postgres_database::PostgresDatabase;
use sqlx::{
    AssertSqlSafe,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use super::{
    support::Bank,
    transfer::{Failure, Runs, Then, deposit, effect, withdraw},
};

async fn run(tx: &mut sqlx::Transaction<'_, sqlx::Postgres>, sql: &'static str) {
    sqlx::raw_sql(sql).execute(&mut **tx).await.expect("a statement that can be run");
}

/// In a schema of its own, as the documented role, without prepared statements as behind a pooler.
#[tokio::test]
async fn the_documented_privileges_are_enough_in_any_schema() {
    let database = PostgresDatabase::on_its_own_server().await;
    database.execute("CREATE SCHEMA billing").await;
    let options: PgConnectOptions = database.url().parse().unwrap();
    let owner = PgPoolOptions::new().connect_with(options.clone().options([("search_path", "billing")])).await.unwrap();
    PostgresStore::new(owner).unwrap().migrate().await.unwrap();
    database
        .execute(
            "CREATE ROLE app LOGIN;
             GRANT USAGE ON SCHEMA billing TO app;
             GRANT SELECT, INSERT, UPDATE, DELETE ON billing.idempotent_records TO app;
             GRANT SELECT, INSERT, DELETE ON billing.idempotent_records_steps TO app;
             GRANT USAGE ON SEQUENCE billing.idempotent_records_fence TO app;
             GRANT SELECT ON billing.idempotent_records_schema TO app;
             CREATE TABLE effects (name text NOT NULL, cents bigint NOT NULL);
             GRANT SELECT, INSERT ON effects TO app;",
        )
        .await;
    let app = options.username("app").options([("search_path", "billing,public")]).statement_cache_capacity(0);
    let pool = PgPoolOptions::new().connect_with(app).await.unwrap();
    let idempotency = Idempotency::new(PostgresStore::new(pool.clone()).unwrap());
    let (bank, runs) = (Bank { idempotency, pool, database }, Runs::default());
    for _ in 0..2 {
        let mut tx = bank.begin().await;
        deposit(&mut tx, &bank, "a", 5, Then::Return, &runs).await.unwrap();
        assert!(withdraw(&mut tx, &bank, "b", 5, Then::Decline, &runs).await.is_err());
        assert!(deposit(&mut tx, &bank, "c", 5, Then::Decline, &runs).await.is_err());
        tx.commit().await.unwrap();
    }
    assert_eq!((runs.count(), bank.effects("a").await, bank.effects("b").await), (4, 1, 0));
    let mut tx = bank.begin().await;
    let _ = tokio::time::timeout(Duration::from_millis(300), deposit(&mut tx, &bank, "d", 5, Then::Hang, &runs)).await;
    assert!(tx.commit().await.is_err());
    assert_eq!((runs.count(), bank.effects("d").await), (5, 0));
}

#[tokio::test]
async fn constraints_that_are_checked_at_once_are_refused() {
    let (bank, runs) = (Bank::open().await, Runs::default());
    let mut tx = bank.begin().await;
    run(&mut tx, "SET CONSTRAINTS ALL IMMEDIATE").await;
    match deposit(&mut tx, &bank, "a", 5, Then::Return, &runs).await {
        Err(Failure::Idempotency(Error::Store(error))) => assert_eq!(error.kind(), StoreErrorKind::Refused),
        other => panic!("{other:?}"),
    }
    run(&mut tx, "SET CONSTRAINTS ALL DEFERRED").await;
    deposit(&mut tx, &bank, "a", 5, Then::Return, &runs).await.unwrap();
    run(&mut tx, "SET CONSTRAINTS ALL IMMEDIATE").await;
    tx.commit().await.unwrap();
    assert_eq!((runs.count(), bank.effects("a").await), (1, 1));
}

/// Whatever the body does to the transaction, there is no effect without its record.
#[tokio::test]
async fn a_body_that_meddles_with_the_transaction_is_told() {
    let bank = Bank::open().await;
    for sql in [
        "COMMIT AND CHAIN",
        "COMMIT",
        "ROLLBACK",
        "ROLLBACK AND CHAIN",
        "ROLLBACK TO SAVEPOINT mine",
        "SET CONSTRAINTS ALL IMMEDIATE",
        "SET LOCAL search_path = nowhere",
    ] {
        for keeps in [true, false] {
            let mut tx = bank.begin().await;
            run(&mut tx, "SAVEPOINT mine").await;
            let id = format!("{sql} {keeps}");
            let operation = Operation::new("meddle").keep_errors();
            let answer = bank.idempotency.call(operation).key(&id).in_transaction(&mut tx).run(|tx| {
                let id = id.clone();
                Box::pin(async move {
                    effect(tx, &id, 1).await?;
                    let _ = sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut **tx).await;
                    if keeps { Err::<(), _>(Failure::Declined) } else { Ok(()) }
                })
            });
            let answer = answer.await;
            let committed = tx.commit().await;
            let recorded = bank.record("meddle", &id).await.is_some();
            let effects = bank.effects(&id).await;
            assert_eq!(effects, 0, "{id}: {answer:?} {committed:?}");
            // An error that is kept takes back what was set, too.
            assert!(!recorded || keeps, "{id}: {answer:?} {committed:?}");
            assert!(recorded || matches!(answer, Err(Failure::Idempotency(_))), "{id}: {answer:?} {committed:?}");
        }
    }
}

/// One after the other gives the key back, and each makes the server begin the wait anew: the store's own time limit ends
/// that. Whoever is told so has nothing in its transaction.
#[tokio::test]
async fn a_wait_has_an_end_however_many_are_ahead() {
    let mut bank = Bank::open().await;
    let (wait, limit) = (Duration::from_millis(600), Duration::from_millis(300));
    let store = PostgresStore::builder().timeout(limit).build(bank.pool.clone()).unwrap();
    bank.idempotency = Idempotency::new(store);
    let bank = Arc::new(bank);
    let callers: Vec<_> = (0..6)
        .map(|_| {
            let bank = bank.clone();
            tokio::spawn(async move {
                let mut tx = bank.begin().await;
                let (asked, mut began) = (Instant::now(), None);
                let operation = Operation::new("op").wait(wait);
                let call = bank.idempotency.call(operation).key("a").in_transaction(&mut tx).run(|tx| {
                    began = Some(asked.elapsed());
                    Box::pin(async move { Ok::<_, Failure>(effect(tx, "a", 1).await?) })
                });
                let answer = call.await;
                let waited = began.unwrap_or_else(|| asked.elapsed());
                if answer.is_ok() {
                    tokio::time::sleep(Duration::from_millis(500)).await;
                    tx.rollback().await.unwrap();
                } else {
                    let _ = tx.commit().await;
                }
                waited
            })
        })
        .collect();
    for caller in callers {
        let waited = caller.await.unwrap();
        assert!(waited < wait + limit * 2 + Duration::from_millis(300), "{waited:?}");
    }
    assert_eq!((bank.effects("a").await, bank.record("op", "a").await.is_none()), (0, true));
}
