//! Calls with a transaction of their own, `Call::commit`: claimed outside, completed inside.

use std::{sync::Arc, time::Duration};

use idempotent_runtime::{
    Disposition, Error, Execution, Idempotency, Operation, OperationError, Outcome, State, StepError, Store as _,
    StoreErrorKind, in_transaction, step,
    store::{Nonce, Token},
    testing::{Fault, Gate, Method},
    with_disposition,
};
use idempotent_tests::{
    database::Database,
    on_each_database,
    postgres_database::PostgresDatabase,
    proxy::{self, Proxy},
};
use serde::{Deserialize, Serialize};

use crate::desk::{Desk, Pool, booked};

on_each_database! {
    what_is_committed_is_replayed,
    an_error_is_rolled_back_and_frees_the_key,
    an_error_that_is_kept_is_recorded_without_effects,
    a_duplicate_waits_without_a_connection,
    a_body_that_ends_its_transaction_is_refused,
    t04_a_late_owner_is_rolled_back,
    a_commit_that_the_database_refuses_leaves_nothing,
    a_caller_that_leaves_has_it_rolled_back,
    a_body_that_panics_is_rolled_back,
    steps_are_refused,
}

#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
enum Refused {
    Body(String),
    #[serde(skip)]
    Idempotency(#[serde(skip)] Option<IdempotencyError>),
}

/// Compared by its code.
#[derive(Clone, Debug)]
struct IdempotencyError(Error);

impl PartialEq for IdempotencyError {
    fn eq(&self, other: &Self) -> bool {
        self.0.code() == other.0.code()
    }
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self::Idempotency(Some(IdempotencyError(error)))
    }
}

impl From<sqlx::Error> for Refused {
    fn from(error: sqlx::Error) -> Self {
        Self::Body(error.to_string())
    }
}

impl Refused {
    fn error(self) -> Error {
        match self {
            Self::Idempotency(Some(IdempotencyError(error))) => error,
            other => panic!("{other:?}"),
        }
    }
}

type Body = std::pin::Pin<Box<dyn Future<Output = Result<u32, Refused>> + Send>>;

const INSERT: &str = "INSERT INTO booked (message, attempt) VALUES ($1, 1)";

/// Books the key in the transaction, runs these statements there, and then does as the test says.
async fn call<P>(
    desk: &Desk,
    operation: impl Into<Operation<P>>,
    key: &str,
    statements: &'static [&'static str],
    then: impl FnOnce(Execution) -> Body + Send,
) -> Result<u32, Refused>
where
    P: idempotent_runtime::ErrorPolicy<Refused>,
{
    let call = desk.idempotency.call(operation).key(key);
    let run = || Execution::current().unwrap();
    match &desk.pool {
        Pool::Postgres(pool) => {
            call.commit(pool, |tx| {
                Box::pin(async move {
                    sqlx::query(INSERT).bind(key).execute(&mut **tx.0).await?;
                    for statement in statements {
                        sqlx::raw_sql(*statement).execute(&mut **tx.0).await?;
                    }
                    then(run()).await
                })
            })
            .await
        }
        Pool::Sqlite(pool) => {
            call.commit(pool, |tx| {
                Box::pin(async move {
                    sqlx::query(INSERT).bind(key).execute(&mut **tx.0).await?;
                    for statement in statements {
                        sqlx::raw_sql(*statement).execute(&mut **tx.0).await?;
                    }
                    then(run()).await
                })
            })
            .await
        }
    }
}

fn attempt(run: Execution) -> Body {
    Box::pin(async move { Ok(run.attempt()) })
}

async fn what_is_committed_is_replayed(database: Database) {
    let desk = Desk::open(&database).await;
    let (first, how) = with_disposition(call(&desk, "book", "k", &[], attempt)).await;
    assert_eq!((first.unwrap(), how), (1, Disposition::Executed));
    let (second, how) = with_disposition(call(&desk, "book", "k", &[], attempt)).await;
    assert_eq!((second.unwrap(), how), (1, Disposition::Replayed));
    assert_eq!(booked(&database, "k").await, 1);
    let record = desk.idempotency.inspect("book", "k").await.unwrap().unwrap();
    assert_eq!(record.state.as_str(), "ok");
}

async fn an_error_is_rolled_back_and_frees_the_key(database: Database) {
    let desk = Desk::open(&database).await;
    let fails = call(&desk, "book", "k", &[], |_| Box::pin(async { Err(Refused::Body("no".to_owned())) })).await;
    assert_eq!(fails, Err(Refused::Body("no".to_owned())));
    assert_eq!(booked(&database, "k").await, 0);
    assert_eq!(desk.idempotency.inspect("book", "k").await.unwrap(), None);
    assert_eq!(call(&desk, "book", "k", &[], attempt).await, Ok(1));
    assert_eq!(booked(&database, "k").await, 1);
}

async fn an_error_that_is_kept_is_recorded_without_effects(database: Database) {
    let desk = Desk::open(&database).await;
    for _ in 0..2 {
        let operation = Operation::new("book").keep_errors();
        let fails = call(&desk, operation, "k", &[], |_| Box::pin(async { Err(Refused::Body("no".to_owned())) })).await;
        assert_eq!(fails, Err(Refused::Body("no".to_owned())));
    }
    assert_eq!(booked(&database, "k").await, 0);
    let record = desk.idempotency.inspect("book", "k").await.unwrap().unwrap();
    assert_eq!((record.state.as_str(), record.attempt), ("error", 1));
}

async fn a_duplicate_waits_without_a_connection(database: Database) {
    let (desk, other) = (Desk::open(&database).await, Desk::open(&database).await);
    let gate = Gate::new();
    let owner = tokio::spawn({
        let (desk, gate) = (desk.clone(), gate.clone());
        async move {
            call(&desk, "book", "k", &[], |_| {
                Box::pin(async move {
                    gate.pass().await;
                    Ok(7)
                })
            })
            .await
        }
    });
    gate.reached(1).await;
    // More than there are connections, in this process and in another one.
    let mut duplicates = tokio::task::JoinSet::new();
    for number in 0..40 {
        let desk = if number % 2 == 0 { desk.clone() } else { other.clone() };
        duplicates.spawn(async move { call(&desk, "book", "k", &[], attempt).await });
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    let in_use = |pool: &Pool| match pool {
        Pool::Postgres(pool) => pool.size() - u32::try_from(pool.num_idle()).unwrap(),
        Pool::Sqlite(pool) => pool.size() - u32::try_from(pool.num_idle()).unwrap(),
    };
    assert_eq!((in_use(&desk.pool), in_use(&other.pool)), (1, 0));
    gate.open();
    assert_eq!(owner.await.unwrap(), Ok(7));
    for answer in duplicates.join_all().await {
        assert_eq!(answer, Ok(7));
    }
    assert_eq!(booked(&database, "k").await, 1);
}

async fn a_body_that_ends_its_transaction_is_refused(database: Database) {
    let desk = Desk::open(&database).await;
    let bodies: &[(&str, &'static [&'static str])] = match database {
        Database::Postgres(_) => &[
            ("commit", &["COMMIT"]),
            ("rollback", &["ROLLBACK"]),
            ("rollback-begin", &["ROLLBACK", "BEGIN"]),
            ("commit-begin", &["COMMIT", "BEGIN"]),
            ("and-chain", &["COMMIT AND CHAIN"]),
        ],
        Database::Sqlite(_) => &[
            ("commit", &["COMMIT"]),
            ("rollback", &["ROLLBACK"]),
            ("rollback-begin", &["ROLLBACK", "BEGIN IMMEDIATE"]),
            ("commit-begin", &["COMMIT", "BEGIN IMMEDIATE"]),
        ],
    };
    for (key, statements) in bodies {
        let refused = call(&desk, "book", key, statements, attempt).await.unwrap_err().error();
        assert!(
            matches!(&refused, Error::Store(error) if error.kind() == StoreErrorKind::Refused),
            "{key}: {refused:?}"
        );
        // It may have committed by itself.
        let record = desk.idempotency.inspect("book", *key).await.unwrap().unwrap();
        assert_eq!(record.state, State::Abandoned, "{key}");
    }
    // The pool is as good as before.
    assert_eq!(call(&desk, "book", "k", &[], attempt).await, Ok(1));
}

async fn t04_a_late_owner_is_rolled_back(database: Database) {
    // On SQLite nobody can take a run over while its transaction is open: it has the file's lock.
    if let Database::Sqlite(_) = database {
        return a_run_that_was_overtaken_before_it_began(database).await;
    }
    let desk = Desk::open(&database).await;
    let other = Desk::open(&database).await;
    let gate = Gate::new();
    // Its renewals are lost, as if its process had been stopped.
    desk.store.always(Method::Renew, Fault::LOST_REQUEST);
    let late = tokio::spawn({
        let (desk, gate) = (desk.clone(), gate.clone());
        async move {
            call(&desk, "book", "k", &[], |run| {
                Box::pin(async move {
                    gate.pass().await;
                    Ok(run.attempt())
                })
            })
            .await
        }
    });
    gate.reached(1).await;
    database.execute("UPDATE idempotent_records SET lease_until = clock_timestamp()").await;
    assert_eq!(call(&other, "book", "k", &[], attempt).await, Ok(2));
    gate.open();
    // It gets what was recorded, and what it wrote is gone.
    assert_eq!(late.await.unwrap(), Ok(2));
    assert_eq!(booked(&database, "k").await, 1);
}

async fn a_run_that_was_overtaken_before_it_began(database: Database) {
    let desk = Desk::open(&database).await;
    let other = Desk::open(&database).await;
    let gate = Gate::new();
    desk.store.next(Method::Claim, [Fault::HoldAfter(gate.clone())]);
    let late = tokio::spawn({
        let desk = desk.clone();
        async move { call(&desk, "book", "k", &[], attempt).await }
    });
    gate.reached(1).await;
    database.execute("UPDATE idempotent_records SET lease_until = 0").await;
    assert_eq!(call(&other, "book", "k", &[], attempt).await, Ok(2));
    gate.open();
    let late = late.await.unwrap().unwrap_err().error();
    assert!(matches!(late, Error::ClaimLost), "{late:?}");
    assert_eq!(booked(&database, "k").await, 1);
    assert_eq!(call(&desk, "book", "k", &[], attempt).await, Ok(2));
}

async fn a_commit_that_the_database_refuses_leaves_nothing(database: Database) {
    let desk = Desk::open(&database).await;
    let (table, insert): (&str, &'static [&'static str]) = match database {
        Database::Postgres(_) => {
            ("CREATE TABLE one (id int UNIQUE DEFERRABLE INITIALLY DEFERRED)", &["INSERT INTO one VALUES (1), (1)"])
        }
        Database::Sqlite(_) => (
            "CREATE TABLE parent (id INTEGER PRIMARY KEY);
             CREATE TABLE one (id INTEGER REFERENCES parent (id) DEFERRABLE INITIALLY DEFERRED)",
            &["INSERT INTO one VALUES (1)"],
        ),
    };
    database.execute(table).await;
    let refused = call(&desk, "book", "k", insert, attempt).await.unwrap_err().error();
    assert!(matches!(refused, Error::Store(_)), "{refused:?}");
    assert_eq!(booked(&database, "k").await, 0);
    // It is known that nothing has happened: the next run is the second one, and nothing is in doubt.
    let record = desk.idempotency.inspect("book", "k").await.unwrap().unwrap();
    assert_eq!((record.state, record.failed), (State::Failed, 1));
    assert_eq!(call(&desk, "book", "k", &[], attempt).await, Ok(2));
}

async fn a_caller_that_leaves_has_it_rolled_back(database: Database) {
    let desk = Desk::open(&database).await;
    let gate = Gate::new();
    let waits = gate.clone();
    tokio::select! {
        answer = call(&desk, "book", "k", &[], |_| Box::pin(async move { waits.pass().await; Ok(0) })) => {
            panic!("{answer:?}")
        }
        () = gate.reached(1) => {}
    }
    assert_eq!(call(&desk, "book", "k", &[], attempt).await, Ok(2));
    assert_eq!(booked(&database, "k").await, 1);
}

async fn a_body_that_panics_is_rolled_back(database: Database) {
    let desk = Desk::open(&database).await;
    let panics = tokio::spawn({
        let desk = desk.clone();
        async move { call(&desk, "book", "k", &[], |_| Box::pin(async { panic!("as the test wants it") })).await }
    });
    assert!(panics.await.unwrap_err().is_panic());
    assert_eq!(call(&desk, "book", "k", &[], attempt).await, Ok(2));
    assert_eq!(booked(&database, "k").await, 1);
}

/// Recorded beside a transaction that is rolled back, a step would be taken for done, although what it wrote is gone.
async fn steps_are_refused(database: Database) {
    let desk = Desk::open(&database).await;
    let answer = call(&desk, "book", "k", &[], |_| {
        Box::pin(step("write", std::future::ready(Err::<u32, _>(Refused::Body("it ran".to_owned())))))
    });
    let error = answer.await.unwrap_err().error();
    assert!(matches!(error, Error::Step(StepError::InTransaction)), "{error:?}");
    assert_eq!(booked(&database, "k").await, 0);
}

#[tokio::test]
async fn a_store_that_is_no_database_is_refused() {
    let database = Database::sqlite().await;
    let mut desk = Desk::open(&database).await;
    desk.idempotency = Idempotency::memory();
    let error = call(&desk, "book", "k", &[], attempt).await.unwrap_err().error();
    assert!(matches!(error, Error::Operation(OperationError::NoTransactions)), "{error:?}");
    assert_eq!(booked(&database, "k").await, 0);
}

/// A level above READ COMMITTED would make each end fail that comes after a renewal.
#[tokio::test]
async fn another_isolation_level_is_refused() {
    let database = Database::postgres().await;
    let desk = Desk::open(&database).await;
    let Pool::Postgres(pool) = &desk.pool else { unreachable!() };
    for level in ["REPEATABLE READ", "SERIALIZABLE"] {
        let refused = desk.idempotency.call("book").key(level).commit(pool, |tx| {
            Box::pin(async move {
                let sql = sqlx::AssertSqlSafe(format!("SET TRANSACTION ISOLATION LEVEL {level}"));
                sqlx::raw_sql(sql).execute(&mut **tx.0).await?;
                sqlx::query(INSERT).bind(level).execute(&mut **tx.0).await?;
                Ok::<_, Refused>(1)
            })
        });
        let refused = refused.await.unwrap_err().error();
        assert!(matches!(&refused, Error::Store(error) if error.kind() == StoreErrorKind::Refused), "{refused:?}");
        assert_eq!(booked(&database, level).await, 0);
    }
    // A default of the session's is not in the way.
    database.execute("ALTER ROLE postgres SET default_transaction_isolation = 'serializable'").await;
    let desk = Desk::open(&database).await;
    let answer = call(&desk, "book", "k", &[], attempt).await;
    database.execute("ALTER ROLE postgres RESET default_transaction_isolation").await;
    assert_eq!(answer, Ok(1));
}

/// A process that is stopped between the end of its run and the commit has the lock of its record.
#[tokio::test]
async fn t04_a_process_that_is_stopped_before_its_commit_is_rolled_back() {
    let database = Database::postgres().await;
    let desk = Desk::open(&database).await;
    let Pool::Postgres(pool) = &desk.pool else { unreachable!() };
    let gate = Gate::new();
    desk.store.next(Method::Complete, [Fault::HoldBefore(gate.clone())]);
    let owner = tokio::spawn({
        let idempotency = desk.idempotency.clone();
        async move { idempotency.call("book").key("k").run(async { Ok::<_, Error>(1) }).await }
    });
    gate.reached(1).await;
    // The test does what the library would: it knows the nonce, and ends the run in a transaction.
    let mut transaction = pool.begin_with("BEGIN; SET LOCAL idempotent.run = 'begun'").await.unwrap();
    let nonce: Vec<u8> =
        sqlx::query_scalar("SELECT nonce FROM idempotent_records").fetch_one(&mut *transaction).await.unwrap();
    let token = Token::new(Nonce::from_bytes(nonce.try_into().unwrap()));
    let key = "book|k".parse().unwrap();
    let store = desk.store.transactional().unwrap();
    let (outcome, day, idle) = (Outcome::Ok("2".into()), Duration::from_secs(86_400), Duration::from_millis(300));
    assert!(store.owns(&mut *transaction, &key, &token).await.unwrap());
    assert!(store.end(&mut *transaction, &key, &token, &outcome, day, idle).await.unwrap());
    assert!(!store.owns(&mut *transaction, &key, &token).await.unwrap());
    // Stopped here. The server ends its session, and the record is as it was before.
    gate.open();
    assert_eq!(owner.await.unwrap().unwrap(), 1);
    assert!(transaction.commit().await.is_err());
    let record = desk.idempotency.inspect("book", "k").await.unwrap().unwrap();
    assert_eq!(record.state, State::Done(Outcome::Ok("1".into())));
}

/// sqlx would give the connection back to the pool with a transaction open on it, and what is written there next would be lost.
#[tokio::test]
async fn a_begin_that_nobody_waits_for_leaves_no_transaction_behind() {
    let postgres = PostgresDatabase::create().await;
    let proxy = Proxy::start(postgres.address()).await;
    let url = postgres.url_at(proxy.address());
    let database = Database::Postgres(postgres);
    let desk = Desk::open(&database).await;
    let pool = sqlx::postgres::PgPoolOptions::new().max_connections(1).test_before_acquire(false);
    let pool = pool.connect(&url).await.unwrap();
    for key in ["commit", "in_transaction"] {
        proxy.set(proxy::Fault::Delay(Duration::from_millis(300)));
        let left = Duration::from_millis(100);
        let is_left = if key == "commit" {
            let call = desk.idempotency.call("book").key(key);
            let call = call
                .commit(&pool, |_| Box::pin(async { Err::<u32, _>(Refused::Body("its caller has left".to_owned())) }));
            tokio::time::timeout(left, call).await.is_err()
        } else {
            let call = in_transaction(&pool, |_| {
                Box::pin(async { Err::<u32, _>(Refused::Body("its caller has left".to_owned())) })
            });
            tokio::time::timeout(left, call).await.is_err()
        };
        assert!(is_left, "{key} was answered within its delay");
        proxy.set(proxy::Fault::None);
        sqlx::query(INSERT).bind(key).execute(&pool).await.unwrap();
        assert_eq!(booked(&database, key).await, 1, "{key}");
    }
}

/// The connection of the transaction breaks at each request after the body, before the server has it or before its answer comes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t03_a_commit_without_an_answer_is_found_out_about() {
    let postgres = PostgresDatabase::create().await;
    let proxy = Arc::new(Proxy::start(postgres.address()).await);
    let url = postgres.url_at(proxy.address());
    let database = Database::Postgres(postgres);
    // The store has connections of its own, which do not break.
    let mut desk = Desk::open(&database).await;
    let (mut committed, mut rolled_back) = (0, 0);
    for fault in [proxy::Fault::CutBeforeRequest, proxy::Fault::CutAfterRequest, proxy::Fault::CutBeforeReply] {
        for skip in 0..5 {
            desk.pool = Desk::open_at(&database, &url, |inbox| inbox).await.pool;
            let key = format!("{fault:?}-{skip}");
            let breaks = Arc::clone(&proxy);
            let answer = call(&desk, "book", &key, &[], |run| {
                Box::pin(async move {
                    breaks.set_after(skip, fault);
                    Ok(run.attempt())
                })
            });
            let answer = answer.await;
            proxy.set(proxy::Fault::None);
            let (booked_once, record) = (booked(&database, &key).await, desk.idempotency.inspect("book", &key).await);
            match answer {
                Ok(1) => {
                    committed += 1;
                    assert_eq!((booked_once, record.unwrap().unwrap().state.as_str()), (1, "ok"), "{key}");
                }
                Err(refused) => {
                    rolled_back += 1;
                    let error = refused.error();
                    assert!(matches!(error, Error::Store(_)), "{key}: {error:?}");
                    assert_eq!(booked_once, 0, "{key}");
                }
                Ok(attempt) => panic!("{key}: attempt {attempt}"),
            }
            // The next call knows as well.
            call(&desk, "book", &key, &[], attempt).await.unwrap();
            assert_eq!(booked(&database, &key).await, 1, "{key}");
        }
    }
    assert!(committed >= 3 && rolled_back >= 3, "{committed} {rolled_back}");
}
