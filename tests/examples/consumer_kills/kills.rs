//! Workers that are killed or stopped in the midst of a message.

use std::time::Duration;

use idempotent_tests::database::Database;
use tokio::time::timeout;

use crate::{
    bench::{Bench, LEASE},
    broker::{Broker, Kind},
    on_each_broker,
    plan::{Plan, Point, Then},
};

on_each_broker! {
    t02_a_kill_at_each_point_postgres,
    t02_a_kill_at_each_point_sqlite,
    t04_a_worker_that_is_stopped_past_its_lease,
}

async fn t02_a_kill_at_each_point_postgres(kind: Kind) {
    for point in Point::ALL {
        killed_at(point, Bench::new(Broker::shared(kind).await, Database::postgres().await).await).await;
    }
}

async fn t02_a_kill_at_each_point_sqlite(kind: Kind) {
    for point in Point::ALL {
        killed_at(point, Bench::new(Broker::shared(kind).await, Database::sqlite().await).await).await;
    }
}

/// One worker dies at this point, and another comes.
async fn killed_at(point: Point, bench: Bench) {
    bench.send("m", 0, Then::Succeed).await;
    let mut dying = bench.start(&Plan { dies: Some(point), ..bench.plan("dying", None) });
    assert!(!dying.process.wait().await.success(), "{point:?}");
    let is_committed = matches!(point, Point::Committed | Point::Acked);
    assert_eq!(bench.effects("m").await, i64::from(is_committed), "{point:?}");

    let mut next = bench.start(&bench.plan("next", None));
    let is_acked = next.says("ack m");
    if point == Point::Acked {
        // The broker may have heard of it or not.
        let _ = timeout(2 * LEASE, is_acked).await;
    } else {
        assert!(is_acked.await, "{point:?}");
    }
    let report = next.drain().await;
    assert_eq!(report.done, u64::from(!is_committed), "{point:?}: {report:?}");
    assert_eq!(bench.effects("m").await, 1, "{point:?}");
    let runs = usize::from(point >= Point::Effect) + usize::from(!is_committed);
    assert_eq!(bench.runs()["m"].len(), runs, "{point:?}");
    bench.assert_settled(&[]).await;
}

/// Another worker takes the message over meanwhile, and commits. The first one's transaction fails at its end.
async fn t04_a_worker_that_is_stopped_past_its_lease(kind: Kind) {
    let bench = Bench::new(Broker::shared(kind).await, Database::postgres().await).await;
    bench.send("m", 2_000, Then::Succeed).await;
    let mut first = bench.start(&bench.plan("first", None));
    assert!(first.says("effect m").await);
    first.process.signal("-STOP");
    let mut second = bench.start(&bench.plan("second", None));
    assert!(second.says("ack m").await);
    first.process.signal("-CONT");
    // It tries to settle what it has worked off in vain.
    while let Some(line) = first.process.line().await {
        if line.ends_with(" m") {
            break;
        }
    }
    assert_eq!(bench.runs()["m"], [1, 2]);
    assert_eq!(bench.effects("m").await, 1);
    assert_eq!(bench.database.number("SELECT count(*) FROM effects WHERE worker = 'second' AND attempt = 2").await, 1);
    second.drain().await;

    // The first one goes on with what comes next.
    bench.send("next", 0, Then::Succeed).await;
    assert!(timeout(Duration::from_secs(30), first.says("ack next")).await.unwrap());
    assert_eq!(first.drain().await.done, 1);
    bench.assert_settled(&[]).await;
    assert_eq!(bench.database.number("SELECT count(*) FROM effects").await, 2);
}
