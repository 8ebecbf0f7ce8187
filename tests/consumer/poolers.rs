//! Consumers through `PgBouncer`: one that keeps a session for each connection is as good as the server itself, and one that shares
//! them is refused.

use std::{
    error::Error as _,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use idempotent_runtime::{
    Idempotency,
    consumer::{Inbox, Limits, Replay, Settled},
    store::postgres::PostgresStore,
    testing::{Gate, Method, ScriptedBroker, SettleKind},
};
use idempotent_tests::{
    captured_events::CapturedEvents, database::Database, pgbouncer::PgBouncer, postgres_database::PostgresDatabase,
};
use sqlx::{PgPool, Row as _};

use crate::desk::{Desk, Failed, booked, broker, message};

const IGNORED: &str = "ignore_startup_parameters = extra_float_digits,options";

async fn behind_a_pooler(mode: &str) -> (Database, PgBouncer, String) {
    let database = PostgresDatabase::create().await;
    let settings = format!("pool_mode = {mode}\n{IGNORED}\ndefault_pool_size = 40\nserver_reset_query =");
    let pooler = PgBouncer::start(database.address(), &settings).await;
    let url = database.url_at(pooler.address());
    (Database::Postgres(database), pooler, url)
}

/// Without a reset of sessions, the next client gets what the last one has left there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pooler_that_keeps_sessions_is_as_good_as_the_server() {
    let (database, pooler, url) = behind_a_pooler("session").await;
    let brief = |inbox: idempotent_runtime::consumer::InboxBuilder<Failed>| inbox.lease(Duration::from_millis(900));
    let desk = Desk::open_at(&database, &url, brief).await;
    let broker = ScriptedBroker::new();
    for number in 0..200 {
        broker.send(message(number));
        if number % 5 == 0 {
            broker.send(message(number));
        }
    }
    broker.send(message("fails-once"));
    broker.send(message("dead"));
    broker.close();
    let handler = |id: String, run: idempotent_runtime::Execution| -> crate::desk::Then {
        Box::pin(async move {
            match &*id {
                "dead" => Err(Failed::ForEver),
                "fails-once" if run.attempt() == 1 => Err(Failed::Now),
                _ => Ok(()),
            }
        })
    };
    let summary = desk.run(&broker, Limits::new(8), std::future::pending(), handler).await;
    assert_eq!((summary.dead, summary.not_settled), (1, 0), "{summary:?}");
    assert!(broker.is_empty());
    assert_eq!(database.number("SELECT count(*) FROM booked").await, 201);
    assert_eq!(database.number("SELECT count(DISTINCT message) FROM booked").await, 201);

    // A run that outlives its lease is renewed.
    let late = crate::desk::broker();
    let gate = Gate::new();
    let running = tokio::spawn({
        let (desk, gate, delivery) = (desk.clone(), gate.clone(), late.deliver().unwrap());
        async move {
            desk.handle(delivery, move |_| {
                Box::pin(async move {
                    gate.pass().await;
                    Ok(())
                })
            })
            .await
        }
    });
    gate.reached(1).await;
    // Each comes a third of a lease after the one before.
    desk.store.called(Method::Renew, desk.store.calls(Method::Renew) + 4).await;
    late.send(message("m"));
    let settled = desk.book(late.deliver().unwrap()).await;
    assert!(matches!(settled, Settled::Busy { .. }), "{settled:?}");
    gate.open();
    assert!(matches!(running.await.unwrap(), Settled::Done));
    assert_eq!(booked(&database, "m").await, 1);

    let id = desk.inbox.dead_letters(0, 10).await.unwrap().first().unwrap().id;
    assert_eq!(desk.inbox.replay(id).await.unwrap(), Replay::Asked);
    let gone = database.wait_for("SELECT count(*) FROM idempotent_records_dead", 0);
    desk.run(&late, Limits::new(2), gone, |_, _| Box::pin(async { Ok(()) })).await;
    assert_eq!(booked(&database, "dead").await, 1);

    // Nothing of a run is left on the sessions that other clients get.
    drop(desk);
    let Database::Postgres(postgres) = &database else { unreachable!() };
    for _ in 0..10 {
        let mut client = pooler.client(postgres.name()).await;
        let left = "SELECT coalesce(current_setting('idempotent.run', true), ''),
            current_setting('idle_in_transaction_session_timeout'), current_setting('client_connection_check_interval')";
        let left = sqlx::raw_sql(left).fetch_one(&mut client).await.unwrap();
        assert_eq!([0, 1, 2].map(|column| left.get::<String, _>(column)), ["", "0", "0"]);
    }
}

#[tokio::test]
async fn a_pooler_that_shares_sessions_is_refused() {
    let (database, _pooler, url) = behind_a_pooler("transaction").await;
    // The tables are there, and a consumer that goes to the server itself.
    let direct = Desk::open(&database).await;
    let error = PostgresStore::connect(&url).await.unwrap_err();
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    assert!(text.contains("pool_mode = session"), "{text}");

    // A pool of the caller's is found out about at the first claim. No message is run, acknowledged or given up.
    let pool = PgPool::connect(&url).await.unwrap();
    let store = PostgresStore::builder().build(pool.clone()).unwrap();
    let inbox = Inbox::<Failed>::builder(Idempotency::new(store), "billing", "book").build().unwrap();
    let (broker, runs) = (broker(), Arc::new(AtomicUsize::new(0)));
    let events = CapturedEvents::start();
    // The event comes once a second at most, of all consumers of this process.
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    let mut told = false;
    while !told {
        assert!(tokio::time::Instant::now() < deadline, "no event says what to change");
        let counted = Arc::clone(&runs);
        let settled = inbox.handle_in(&pool, broker.deliver().unwrap(), move |_, _, _| {
            counted.fetch_add(1, Ordering::Relaxed);
            Box::pin(async { Ok(()) })
        });
        let settled = settled.await;
        assert!(matches!(settled, Settled::Busy { .. }), "{settled:?}");
        told = events.take().iter().any(|line| line.contains("pool_mode = session"));
    }
    assert_eq!(runs.load(Ordering::Relaxed), 0);
    assert_eq!((broker.count(SettleKind::Ack), broker.count(SettleKind::Reject)), (0, 0));
    // No attempt was used up.
    assert!(matches!(direct.book(broker.deliver().unwrap()).await, Settled::Done));
    assert_eq!(database.number("SELECT attempt FROM booked").await, 1);
}
