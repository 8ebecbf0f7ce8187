//! Other messages with the same id, and other consumers of the same message.

use std::time::Duration;

use idempotent_tests::{
    database::Database,
    proxy::{Fault, Proxy},
};
use tokio::time::sleep;

use crate::{
    bench::{Bench, LEASE},
    broker::{Broker, Kind},
    on_each_broker,
    plan::{Plan, Then},
};

on_each_broker! {
    t09_another_payload_under_a_used_id,
    t15_a_handler_that_outlives_lease_and_visibility,
    t15_a_delivery_that_is_lost_while_its_handler_runs,
}

async fn t09_another_payload_under_a_used_id(kind: Kind) {
    let bench = Bench::new(Broker::shared(kind).await, Database::postgres().await).await;
    let mut worker = bench.start(&Plan { backoff: Duration::from_millis(1_500), ..bench.plan("worker", None) });
    // While it runs, and after that. Each other payload is another conflict.
    bench.send("a", 1_500, Then::Succeed).await;
    assert!(worker.says("effect a").await);
    bench.send("a", 1, Then::Succeed).await;
    assert!(worker.says("reject a").await);
    assert!(worker.says("ack a").await);
    bench.send("a", 2, Then::Succeed).await;
    assert!(worker.says("reject a").await);
    // While it waits for its next attempt.
    bench.send("b", 0, Then::FailOnce).await;
    assert!(worker.says("retry b").await);
    bench.send("b", 1, Then::Succeed).await;
    assert!(worker.says("reject b").await);
    assert!(worker.says("ack b").await);
    // When it is dead.
    bench.send("c", 0, Then::FailForEver).await;
    assert!(worker.says("reject c").await);
    bench.send("c", 1, Then::Succeed).await;
    assert!(worker.says("reject c").await);
    // Delivered once more, a conflict is no other one.
    bench.send("c", 1, Then::Succeed).await;
    assert!(worker.says("reject c").await);
    worker.drain().await;
    assert_eq!((bench.letters("conflict").await, bench.letters("permanent").await), (4, 1));
    let effects = [bench.effects("a").await, bench.effects("b").await, bench.effects("c").await];
    assert_eq!(effects, [1, 1, 0]);
    let runs = bench.runs();
    assert_eq!([&runs["a"], &runs["b"], &runs["c"]], [&vec![1], &vec![1, 2], &vec![1]]);
    if kind == Kind::Redis {
        let dead = bench.broker.dead(&bench.queue).await;
        let conflicts = dead.iter().filter(|(_, why)| why.as_deref() == Some("conflict"));
        assert_eq!(conflicts.count(), 5, "{dead:?}");
    }
    bench.assert_settled(&["a", "a", "b", "c", "c", "c"]).await;
}

async fn t15_a_handler_that_outlives_lease_and_visibility(kind: Kind) {
    let bench = Bench::new(Broker::shared(kind).await, Database::postgres().await).await;
    let hold = 3 * u64::try_from(LEASE.as_millis()).unwrap();
    let mut workers = [bench.start(&bench.plan("a", None)), bench.start(&bench.plan("b", None))];
    bench.send("m", hold, Then::Succeed).await;
    bench.database.wait_for("SELECT count(*) FROM effects", 1).await;
    sleep(2 * LEASE).await;
    for worker in &mut workers {
        assert!(worker.process.ended().is_none());
    }
    let mut done = 0;
    for worker in workers {
        let report = worker.drain().await;
        assert_eq!(report.duplicates, 0, "it was delivered again");
        done += report.done;
    }
    assert_eq!(done, 1);
    assert_eq!(bench.runs()["m"], [1]);
    bench.assert_settled(&[]).await;
}

/// The next consumer waits for the run, and finds its result.
async fn t15_a_delivery_that_is_lost_while_its_handler_runs(kind: Kind) {
    let bench = Bench::new(Broker::shared(kind).await, Database::postgres().await).await;
    let proxy = Proxy::start(bench.broker.address()).await;
    let mut first = bench.start(&bench.plan("first", Some(&proxy)));
    bench.send("m", 4_000, Then::Succeed).await;
    assert!(first.says("effect m").await);
    proxy.set(Fault::Refuse);
    proxy.cut();
    let mut second = bench.start(&bench.plan("second", None));
    assert!(second.says("ack m").await);
    assert!(first.says("unsettled m").await);
    let (first, second) = (first.drain().await, second.drain().await);
    assert_eq!((first.done, first.not_settled, second.done, second.duplicates), (0, 1, 0, 1));
    assert_eq!(bench.runs()["m"], [1]);
    assert_eq!(bench.effects("m").await, 1);
    bench.assert_settled(&[]).await;
}
