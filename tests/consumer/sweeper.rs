//! Records are removed all the while, and each message keeps its end and its attempts for as long as was promised.

use std::time::Duration;

use idempotent_runtime::{
    State,
    consumer::{Inbox, InboxBuilder, Limits, Settled},
    testing::{Gate, Method, ScriptedBroker, SettleFault, SettleKind},
};
use idempotent_tests::{database::Database, on_each_database, wait::wait_for};

use crate::desk::{Desk, Failed, broker, message};

on_each_database! {
    t19_what_runs_or_is_in_its_window_is_not_removed,
}

/// The smallest that an inbox takes.
const TTL: Duration = InboxBuilder::<Failed>::LEAST_TTL;
/// The time that passes after each round: the messages of three rounds are in their window.
const BETWEEN: Duration = Duration::from_mins(25);
const ROUNDS: usize = 5;

async fn t19_what_runs_or_is_in_its_window_is_not_removed(database: Database) {
    let each = if matches!(database, Database::Sqlite(_)) { 50 } else { 200 };
    let desk = Desk::open_with(&database, |inbox| inbox.ttl(TTL)).await;
    let before = pages(&database).await;
    let sweepers = [1, 3].map(|millis| desk.idempotency.spawn_sweeper(Duration::from_millis(millis)));

    // One runs all the while. Effects elsewhere, since a transaction would have the lock of a SQLite file.
    let gate = Gate::new();
    let long = Inbox::<Failed>::builder(desk.idempotency.clone(), "billing", "long");
    let long = long.ttl(TTL).lease(Duration::from_millis(600)).build().unwrap();
    let running = tokio::spawn({
        let (gate, delivery) = (gate.clone(), broker().deliver().unwrap());
        async move {
            let handler = async |_: idempotent_runtime::consumer::Message<'_>, _| {
                gate.pass().await;
                Ok(())
            };
            long.handle(delivery, handler).await
        }
    });
    gate.reached(1).await;
    // And one waits for its second attempt.
    let later = Inbox::<Failed>::builder(desk.idempotency.clone(), "billing", "later").ttl(TTL).backoff(BETWEEN * 2);
    let (later, waiting) = (later.build().unwrap(), broker());
    let settled = later.handle(waiting.deliver().unwrap(), async |_, _| Err(Failed::Now)).await;
    assert!(matches!(settled, Settled::Retried { attempt: 1, .. }), "{settled:?}");

    for round in 0..ROUNDS {
        // What was worked off in the rounds before comes once more, and is known.
        for known in (round.saturating_sub(2)..=round).rev() {
            work_off(&desk, known, each).await;
            let booked = format!("SELECT count(*) FROM booked WHERE message LIKE '{known}-%'");
            assert_eq!(database.number(&booked).await, each, "round {known}, in round {round}");
        }
        let in_window = each * (round.min(2) + 1).cast_signed() as i64;
        let records = "SELECT count(*) FROM idempotent_records WHERE operation LIKE '%book'";
        database.wait_for(records, in_window).await;
        if round <= 2 {
            let settled = later.handle(waiting.deliver().unwrap(), async |_, run| {
                assert_eq!(run.attempt(), 2, "its first attempt was forgotten");
                Ok(())
            });
            let settled = settled.await;
            assert!(matches!((round, &settled), (0 | 1, Settled::Busy { .. }) | (2, Settled::Done)), "{settled:?}");
        }
        database.advance(BETWEEN).await;
        // Its lease was moved as well. A clock that goes on by itself would have had it renewed meanwhile.
        let is_renewed = async || match desk.idempotency.inspect("billing/long", "m").await.unwrap() {
            Some(record) => matches!(record.state, State::Running { .. }),
            None => panic!("what runs was removed"),
        };
        wait_for("a renewal", is_renewed).await;
    }
    let booked = "SELECT count(*) FROM booked";
    assert_eq!(database.number(booked).await, each * ROUNDS.cast_signed() as i64);
    gate.open();
    assert!(matches!(running.await.unwrap(), Settled::Done));
    assert!(desk.store.calls(Method::PurgeExpired) > 2 * ROUNDS);

    database.advance(TTL).await;
    for table in ["idempotent_records", "idempotent_records_steps", "idempotent_records_dead"] {
        database.wait_for(&format!("SELECT count(*) FROM {table}"), 0).await;
    }
    drop(sweepers);
    database.execute("DELETE FROM booked").await;
    assert_eq!(pages(&database).await, before);
}

/// Sends the messages of a round, a fifth of them twice, and works them off. Some acknowledgements are lost.
async fn work_off(desk: &Desk, round: usize, each: i64) {
    let broker = ScriptedBroker::new();
    for number in 0..each {
        for _ in 0..if number % 5 == 0 { 2 } else { 1 } {
            broker.send(message(format!("{round}-{number}")));
        }
        if number % 10 == 0 {
            let fault = if number % 20 == 0 { SettleFault::LostRequest } else { SettleFault::LostReply };
            broker.next(SettleKind::Ack, fault);
        }
    }
    broker.close();
    let summary = desk.run(&broker, Limits::new(8), std::future::pending(), |_, _| Box::pin(async { Ok(()) })).await;
    assert!(broker.is_empty(), "{broker:?}");
    assert_eq!(summary.retried + summary.dead + summary.given_back + summary.broken_off, 0, "{summary:?}");
}

/// The pages that have rows in them: of the table of records, or of the file.
async fn pages(database: &Database) -> i64 {
    match database {
        Database::Postgres(_) => {
            database.execute("VACUUM idempotent_records").await;
            database.number("SELECT pg_relation_size('idempotent_records')").await
        }
        Database::Sqlite(_) => {
            let sql = "SELECT page_count - freelist_count FROM pragma_page_count, pragma_freelist_count";
            database.number(sql).await
        }
    }
}
