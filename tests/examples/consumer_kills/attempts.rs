//! Messages that are given up.

use std::{collections::BTreeMap, time::Duration};

use idempotent_tests::{database::Database, postgres_database::PostgresDatabase};
use tokio::time::sleep;

use crate::{
    bench::{Bench, message},
    broker::{Broker, Kind},
    on_each_broker,
    plan::{Plan, Point, Then},
};

on_each_broker! {
    t06_the_count_survives_kills_and_a_restart_of_the_database,
    t07_a_message_that_kills_its_process_is_given_up_alone,
    t07_two_attempts,
    t07_three_attempts,
}

async fn t06_the_count_survives_kills_and_a_restart_of_the_database(kind: Kind) {
    let database = Database::Postgres(PostgresDatabase::on_its_own_server().await);
    let mut bench = Bench::with_attempts(Broker::shared(kind).await, database, 3).await;
    bench.send("killed", 0, Then::Succeed).await;
    for attempt in 1..=3 {
        let mut worker = bench.start(&Plan { dies: Some(Point::Effect), ..bench.plan("dying", None) });
        assert!(!worker.process.wait().await.success());
        assert_eq!(bench.runs()["killed"].last(), Some(&attempt));
        let Database::Postgres(database) = &mut bench.database else { unreachable!() };
        database.server().kill();
        database.server().restart().await;
    }
    let mut worker = bench.start(&bench.plan("last", None));
    assert!(worker.says("reject killed").await);
    bench.send("failing", 0, Then::Fail).await;
    assert!(worker.says("reject failing").await);
    worker.drain().await;
    assert_eq!(
        bench.runs(),
        BTreeMap::from([("failing".to_owned(), vec![1, 2, 3]), ("killed".to_owned(), vec![1, 2, 3])])
    );
    assert_eq!(bench.letters("exhausted").await, 2);
    assert_eq!(bench.database.number("SELECT sum(attempts)::bigint FROM idempotent_records_dead").await, 6);
    let errors = "SELECT count(*) FROM idempotent_records_dead WHERE error = 'it fails now'";
    assert_eq!(bench.database.number(errors).await, 1);
    assert_eq!(bench.database.number("SELECT count(*) FROM effects").await, 0);
    bench.assert_settled(&["failing", "killed"]).await;
}

async fn t07_a_message_that_kills_its_process_is_given_up_alone(kind: Kind) {
    poison_among_others(kind, 5).await;
}

async fn t07_two_attempts(kind: Kind) {
    poison_among_others(kind, 2).await;
}

async fn t07_three_attempts(kind: Kind) {
    poison_among_others(kind, 3).await;
}

/// It aborts its process each time, among 49 others that do nothing of the kind.
async fn poison_among_others(kind: Kind, max_attempts: u32) {
    let bench = Bench::with_attempts(Broker::shared(kind).await, Database::postgres().await, max_attempts).await;
    let others = (0..49).map(|number| message(&format!("m-{number}"), 50, Then::Succeed));
    let mut messages: Vec<_> = others.collect();
    messages.insert(10, message("poison", 100, Then::Abort));
    bench.broker.send(&bench.queue, &messages).await;
    let plan = bench.plan("worker", None);
    let mut worker = bench.start(&plan);
    let mut kills = 0;
    // Until all are done, or given up.
    loop {
        if worker.process.ended().is_some() {
            kills += 1;
            worker = bench.start(&plan);
        }
        let effects = bench.database.number("SELECT count(*) FROM effects").await;
        let letters = if kills > 0 { bench.letters("exhausted").await } else { 0 };
        if effects + letters >= 50 {
            break;
        }
        sleep(Duration::from_millis(100)).await;
    }
    worker.drain().await;
    let poison = &bench.runs()["poison"];
    assert_eq!(*poison, (1..=max_attempts).collect::<Vec<_>>());
    assert_eq!(kills, max_attempts);
    bench.assert_settled(&["poison"]).await;
    assert_eq!(bench.database.number("SELECT count(*) FROM effects").await, 49);
    assert_eq!(bench.database.number("SELECT count(DISTINCT message) FROM effects").await, 49);
}
