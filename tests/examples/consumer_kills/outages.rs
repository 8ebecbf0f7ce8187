//! Workers that are drained, brokers that are restarted, connections that are cut.

use std::time::Duration;

use idempotent_examples::rabbitmq::Deliveries;
use idempotent_tests::{database::Database, postgres_database::PostgresDatabase, proxy::Proxy};
use lapin::{options::BasicConsumeOptions, types::FieldTable};
use sqlx::query_scalar;
use tokio::time::sleep;
use tokio_stream::StreamExt as _;

use crate::{
    bench::{Bench, message},
    broker::{Broker, Kind, Sent},
    on_each_broker,
    plan::{Plan, Report, Then},
};

on_each_broker! {
    t16_a_drain,
    t16_a_drain_keeps_a_partition_in_order,
    t17_a_broker_that_is_restarted_and_connections_that_are_cut,
}

async fn t16_a_drain(kind: Kind) {
    const RUNNING: i64 = 50;
    const SLOW: i64 = 5;
    const PREFETCHED: i64 = 500;
    let bench = Bench::new(Broker::shared(kind).await, Database::postgres().await).await;
    // The slow ones take longer than a drain may.
    let hold = |number| if number < SLOW { 60_000 } else { 2_000 };
    let messages = |range: std::ops::Range<i64>, hold: &dyn Fn(i64) -> u64| -> Vec<_> {
        range.map(|number| message(&format!("m-{number}"), hold(number), Then::Succeed)).collect()
    };
    bench.broker.send(&bench.queue, &messages(0..RUNNING, &hold)).await;
    bench.broker.send(&bench.queue, &messages(RUNNING..RUNNING + PREFETCHED, &|_| 0)).await;
    let plan = Plan {
        concurrency: usize::try_from(RUNNING).unwrap(),
        prefetch: u16::try_from(RUNNING + PREFETCHED).unwrap(),
        drain: Duration::from_secs(5),
        ..bench.plan("drained", None)
    };
    let worker = bench.start(&plan);
    // All have begun, and none has ended.
    let has_begun = async || bench.runs().len() as i64 == RUNNING;
    idempotent_tests::wait::wait_for("all handlers", has_begun).await;
    let report = worker.drain().await;
    let (running, slow) = (RUNNING.unsigned_abs(), SLOW.unsigned_abs());
    assert_eq!((report.done, report.broken_off), (running - slow, slow), "{report:?}");
    assert_eq!(bench.database.number("SELECT count(*) FROM effects").await, RUNNING - SLOW);
    assert_eq!(bench.runs().len() as i64, RUNNING, "one began after the shutdown");
    if kind == Kind::Rabbitmq {
        // They are back at once.
        idempotent_tests::wait::wait_for("the prefetched ones", async || {
            bench.broker.waiting(&bench.queue).await == (PREFETCHED + SLOW).unsigned_abs()
        })
        .await;
    }

    // Without their pause, they are the same messages: what was broken off was not counted.
    let next = bench.start(&bench.plan("next", None));
    bench.database.wait_for("SELECT count(*) FROM effects", RUNNING - SLOW + PREFETCHED).await;
    assert_eq!(
        bench.database.number("SELECT count(*) FROM effects WHERE attempt = 1").await,
        RUNNING - SLOW + PREFETCHED
    );
    let attempts = async || {
        let runs = bench.runs();
        (0..SLOW).all(|number| runs[&format!("m-{number}")] == [1, 1])
    };
    idempotent_tests::wait::wait_for("the second runs of the slow ones", attempts).await;
    drop(next);
}

/// The first message is broken off, some wait for it, and some have not been taken.
async fn t16_a_drain_keeps_a_partition_in_order(kind: Kind) {
    let bench = Bench::ordered(Broker::shared(kind).await, Database::postgres().await).await;
    let ids: Vec<_> = (0..30).map(|number| format!("p-{number:02}")).collect();
    let in_partition = |(number, id): (usize, &String)| {
        let hold = if number == 0 { 2_000 } else { 0 };
        Sent { partition: Some("p".to_owned()), ..message(id, hold, Then::Succeed) }
    };
    let messages: Vec<_> = ids.iter().enumerate().map(in_partition).collect();
    bench.broker.send(&bench.queue, &messages).await;
    let plan = Plan { prefetch: 10, drain: Duration::from_millis(200), ..bench.plan("only", None) };
    let mut worker = bench.start(&plan);
    assert!(worker.says("effect p-00").await);
    sleep(Duration::from_millis(500)).await;
    let report = worker.drain().await;
    assert_eq!((report.done, report.broken_off), (0, 1), "{report:?}");

    let mut worker = bench.start(&plan);
    assert!(worker.says("ack p-29").await);
    worker.drain().await;
    let Database::Postgres(database) = &bench.database else { unreachable!() };
    let effects = query_scalar("SELECT message FROM effects ORDER BY position");
    let effects: Vec<String> = effects.fetch_all(&mut database.client().await).await.unwrap();
    assert_eq!(effects, ids);
    assert!(bench.runs().iter().all(|(id, attempts)| attempts.len() == 1 + usize::from(id == "p-00")));
    bench.assert_settled(&[]).await;
}

/// The consumer that waits for its turn gets what the last one has left, and then what came later.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t16_the_next_consumer_of_an_ordered_queue_goes_on_where_the_last_one_was() {
    let broker = Broker::shared(Kind::Rabbitmq).await;
    broker.create("handed-over", 5, true).await;
    let ids: Vec<_> = (0..30).map(|number| format!("p-{number:02}")).collect();
    let messages: Vec<_> = ids.iter().map(|id| message(id, 0, Then::Succeed)).collect();
    broker.send("handed-over", &messages).await;
    let Broker::Rabbitmq(server) = &broker else { unreachable!() };
    let mut deliveries = Deliveries::new(&server.url(), "handed-over", 10);
    let mut held = Vec::new();
    for _ in 0..10 {
        held.push(deliveries.next().await);
    }
    let channel = server.client().await.create_channel().await.unwrap();
    let consumer =
        channel.basic_consume("handed-over".into(), "".into(), BasicConsumeOptions::default(), FieldTable::default());
    let mut next = consumer.await.unwrap();

    drop((deliveries, held));
    let mut seen = Vec::new();
    while seen.len() < ids.len() {
        let delivery = next.next().await.unwrap().unwrap();
        seen.push(delivery.properties.message_id().as_ref().unwrap().to_string());
    }
    assert_eq!(seen, ids);
}

async fn t17_a_broker_that_is_restarted_and_connections_that_are_cut(kind: Kind) {
    const MESSAGES: i64 = 200;
    let database = Database::Postgres(PostgresDatabase::create().await);
    let mut bench = Bench::with_attempts(Broker::own(kind).await, database, 20).await;
    let proxy = Proxy::start(bench.broker.address()).await;
    let messages: Vec<_> = (0..MESSAGES).map(|number| message(&format!("m-{number}"), 300, Then::Succeed)).collect();
    bench.broker.send(&bench.queue, &messages).await;
    bench.broker.wait_until_kept(&bench.queue).await;
    let workers = ["a", "b"].map(|name| bench.start(&bench.plan(name, Some(&proxy))));
    let begun = async |bench: &Bench, count: usize| {
        idempotent_tests::wait::wait_for("handlers", async || bench.runs().len() >= count).await;
    };
    for round in 1..=3 {
        begun(&bench, 20 * round).await;
        proxy.cut();
        sleep(Duration::from_millis(500)).await;
    }
    begun(&bench, 100).await;
    // Those that run commit meanwhile.
    bench.broker.kill_for(Duration::from_secs(1)).await;
    bench.database.wait_for("SELECT count(*) FROM effects", MESSAGES).await;
    // What was committed and not acknowledged comes again.
    sleep(Duration::from_secs(4)).await;
    let mut total = Report::default();
    for worker in workers {
        total += worker.drain().await;
    }
    assert!(total.not_settled > 0, "{total:?}");
    assert!(total.duplicates > 0, "{total:?}");
    bench.assert_settled(&[]).await;
    assert_eq!(bench.database.number("SELECT count(*) FROM effects").await, MESSAGES);
    assert_eq!(bench.database.number("SELECT count(DISTINCT message) FROM effects").await, MESSAGES);
    assert!(bench.runs().values().all(|attempts| attempts.len() == 1), "a run was repeated");
}
