//! Nothing goes wrong but deliveries that come twice.

use idempotent_tests::database::Database;

use crate::{
    bench::{Bench, message},
    broker::{Broker, Kind},
    on_each_broker,
    plan::Then,
};

on_each_broker! {
    t01_a_thousand_messages_with_redeliveries,
}

/// Eight at a time. A fifth of the messages is there twice: some side by side, the others far apart.
async fn t01_a_thousand_messages_with_redeliveries(kind: Kind) {
    const MESSAGES: usize = 1_000;
    let bench = Bench::new(Broker::shared(kind).await, Database::postgres().await).await;
    let mut messages: Vec<_> = (0..MESSAGES).map(|number| message(&format!("m-{number}"), 0, Then::Succeed)).collect();
    let again: Vec<_> = messages.iter().step_by(5).cloned().collect();
    let (side_by_side, later) = again.split_at(again.len() / 2);
    for (number, duplicate) in side_by_side.iter().enumerate() {
        messages.insert(6 * number, duplicate.clone());
    }
    messages.extend_from_slice(later);
    let plan = bench.plan("worker", None);
    assert_eq!(plan.concurrency, 8);
    let mut worker = bench.start(&plan);
    bench.broker.send(&bench.queue, &messages).await;
    let mut acked = 0;
    while acked < messages.len() {
        let line = worker.process.line().await.expect("a worker that lives");
        assert!(!line.starts_with("unsettled") && !line.starts_with("reject"), "{line}");
        acked += usize::from(line.starts_with("ack "));
    }
    let report = worker.drain().await;
    bench.assert_settled(&[]).await;
    assert_eq!(bench.database.number("SELECT count(*) FROM effects WHERE attempt = 1").await, MESSAGES as i64);
    assert_eq!(bench.database.number("SELECT count(DISTINCT message) FROM effects").await, MESSAGES as i64);
    let runs = bench.runs();
    assert!(runs.len() == MESSAGES && runs.values().all(|attempts| *attempts == [1]), "a run was repeated");
    assert_eq!((report.done, report.duplicates), (MESSAGES as u64, again.len() as u64), "{report:?}");
    assert_eq!(report.not_settled + report.given_back + report.broken_off, 0, "{report:?}");
}
