//! Each message is worked off once, by effects in the database.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use idempotent_runtime::{
    State,
    consumer::{Inbox, Limits, Settled},
    testing::{Gate, ScriptedBroker, SettleFault, SettleKind},
};
use idempotent_tests::{database::Database, on_each_database};

use crate::desk::{Desk, Failed, booked, broker, message};

on_each_database! {
    t01_a_thousand_messages_with_redeliveries,
    t05_a_duplicate_waits_and_is_not_acknowledged_before_the_commit,
    t09_another_payload_is_a_conflict_in_every_state,
    t10_two_handlers_and_two_groups_each_work_an_event_off,
    t12_a_producer_that_serializes_anew,
    an_acknowledgement_that_fails_leads_to_a_duplicate,
    a_handler_that_fails_is_rolled_back_and_tried_again,
    a_handler_that_panics_is_a_run_that_vanished,
    a_delivery_that_is_dropped_is_rolled_back,
    a_pool_of_another_database_is_refused_before_the_handler_runs,
}

async fn t01_a_thousand_messages_with_redeliveries(database: Database) {
    let count = if matches!(database, Database::Sqlite(_)) { 250 } else { 1_000 };
    let broker = ScriptedBroker::new();
    for number in 0..count {
        broker.send(message(number));
        if number % 5 == 0 {
            broker.send(message(number));
        }
        if number % 10 == 0 {
            broker.next(
                SettleKind::Ack,
                if number % 20 == 0 { SettleFault::LostRequest } else { SettleFault::LostReply },
            );
        }
    }
    broker.close();
    let desk = Desk::open(&database).await;
    let summary = desk.run(&broker, Limits::new(8), std::future::pending(), |_, _| Box::pin(async { Ok(()) })).await;
    assert!(broker.is_empty(), "{broker:?}");
    assert_eq!(summary.retried + summary.dead + summary.given_back + summary.broken_off, 0, "{summary:?}");
    assert_eq!(summary.not_settled, count / 10);
    assert_eq!(database.number("SELECT count(DISTINCT message) FROM booked").await, count.cast_signed());
    assert_eq!(database.number("SELECT count(*) FROM booked").await, count.cast_signed());
}

async fn t05_a_duplicate_waits_and_is_not_acknowledged_before_the_commit(database: Database) {
    let broker = broker();
    broker.send(message("m"));
    let patient = || Desk::open_with(&database, |inbox| inbox.wait(Duration::from_secs(30)));
    let (desk, other) = (patient().await, patient().await);
    let gate = Gate::new();
    let (first, second) = (broker.deliver().unwrap(), broker.deliver().unwrap());
    let owner = tokio::spawn({
        let (desk, gate) = (desk.clone(), gate.clone());
        async move {
            let waits = gate.clone();
            desk.handle(first, move |_| {
                Box::pin(async move {
                    waits.pass().await;
                    Ok(())
                })
            })
            .await
        }
    });
    gate.reached(1).await;
    let duplicate = tokio::spawn(async move { other.book(second).await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!duplicate.is_finished());
    assert_eq!(broker.count(SettleKind::Ack), 0);
    gate.open();
    assert!(matches!(owner.await.unwrap(), Settled::Done));
    assert!(matches!(duplicate.await.unwrap(), Settled::Duplicate | Settled::Busy { .. }));
    assert_eq!(booked(&database, "m").await, 1);
}

async fn t09_another_payload_is_a_conflict_in_every_state(database: Database) {
    let desk = Desk::open(&database).await;
    let other = |id: &str| {
        let broker = ScriptedBroker::new();
        broker.send(idempotent_runtime::testing::ScriptedMessage::new(id, "another"));
        broker.deliver().unwrap()
    };
    let conflicts = async |id: &str| match desk.book(other(id)).await {
        Settled::Dead(why) => assert_eq!(why.as_str(), "conflict"),
        settled => panic!("{id}: {settled:?}"),
    };
    let first = |id: &str| {
        let broker = ScriptedBroker::new();
        broker.send(message(id));
        broker.deliver().unwrap()
    };
    // Failed, and to be run again.
    let failed = desk.handle(first("failed"), |_| Box::pin(async { Err(Failed::Now) })).await;
    assert!(matches!(failed, Settled::Retried { attempt: 1, .. }), "{failed:?}");
    conflicts("failed").await;
    // Running.
    if let Database::Postgres(_) = database {
        let gate = Gate::new();
        let (running, waits) = (first("running"), gate.clone());
        let owner = tokio::spawn({
            let desk = desk.clone();
            async move {
                desk.handle(running, move |_| {
                    Box::pin(async move {
                        waits.pass().await;
                        Ok(())
                    })
                })
                .await
            }
        });
        gate.reached(1).await;
        conflicts("running").await;
        gate.open();
        assert!(matches!(owner.await.unwrap(), Settled::Done));
        conflicts("running").await;
    }
    // Done.
    assert!(matches!(desk.book(first("done")).await, Settled::Done));
    conflicts("done").await;
    // Dead.
    let dead = desk.handle(first("dead"), |_| Box::pin(async { Err(Failed::ForEver) })).await;
    assert!(matches!(dead, Settled::Dead(_)));
    conflicts("dead").await;
    // The originals go on as if nothing had been.
    assert!(matches!(desk.book(first("failed")).await, Settled::Done));
    assert_eq!(booked(&database, "failed").await, 1);
    assert_eq!(booked(&database, "done").await, 1);
    // Each conflict is a letter, once.
    conflicts("done").await;
    let letters = desk.inbox.dead_letters(0, 100).await.unwrap();
    assert_eq!(letters.iter().filter(|letter| letter.key == "done").count(), 1);
}

async fn t10_two_handlers_and_two_groups_each_work_an_event_off(database: Database) {
    let desk = Desk::open(&database).await;
    let runs = AtomicUsize::new(0);
    for (group, handler) in [("billing", "book"), ("billing", "mail"), ("audit", "book"), ("billing", "book")] {
        let inbox = Inbox::<Failed>::builder(desk.idempotency.clone(), group, handler).build().unwrap();
        let settled = inbox.handle(broker().deliver().unwrap(), async |_, _| {
            runs.fetch_add(1, Ordering::Relaxed);
            Ok(())
        });
        let settled = settled.await;
        assert!(matches!(settled, Settled::Done | Settled::Duplicate), "{settled:?}");
    }
    assert_eq!(runs.into_inner(), 3);
}

async fn t12_a_producer_that_serializes_anew(database: Database) {
    use idempotent_runtime::{Fingerprint, testing::ScriptedMessage};

    let desk = Desk::open_with(&database, |inbox| {
        inbox.fingerprint(|message| {
            let value: serde_json::Value = serde_json::from_slice(message.payload).unwrap_or_default();
            Fingerprint::of(&value).unwrap()
        })
    })
    .await;
    let broker = ScriptedBroker::new();
    broker.send(ScriptedMessage::new("m", r#"{"a":1,"b":2}"#));
    broker.send(ScriptedMessage::new("m", r#"{ "b": 2, "a": 1 }"#));
    broker.send(ScriptedMessage::new("m", r#"{"a":1,"b":3}"#));
    assert!(matches!(desk.book(broker.deliver().unwrap()).await, Settled::Done));
    assert!(matches!(desk.book(broker.deliver().unwrap()).await, Settled::Duplicate));
    assert!(matches!(desk.book(broker.deliver().unwrap()).await, Settled::Dead(_)));
}

async fn an_acknowledgement_that_fails_leads_to_a_duplicate(database: Database) {
    let (desk, broker) = (Desk::open(&database).await, broker());
    broker.next(SettleKind::Ack, SettleFault::LostRequest);
    assert!(matches!(desk.book(broker.deliver().unwrap()).await, Settled::NotSettled(_)));
    assert_eq!(booked(&database, "m").await, 1);
    assert!(matches!(desk.book(broker.deliver().unwrap()).await, Settled::Duplicate));
    assert_eq!(booked(&database, "m").await, 1);
    assert!(broker.is_empty());
}

async fn a_handler_that_fails_is_rolled_back_and_tried_again(database: Database) {
    let (desk, broker) = (Desk::open(&database).await, broker());
    for attempt in 1..=3 {
        let settled = desk.handle(broker.deliver().unwrap(), |_| Box::pin(async { Err(Failed::Now) })).await;
        assert!(matches!(settled, Settled::Retried { attempt: run, .. } if run == attempt), "{settled:?}");
        assert_eq!(booked(&database, "m").await, 0);
    }
    assert!(matches!(desk.book(broker.deliver().unwrap()).await, Settled::Done));
    assert_eq!(database.number("SELECT attempt FROM booked").await, 4);
}

async fn a_handler_that_panics_is_a_run_that_vanished(database: Database) {
    let (desk, broker) = (Desk::open(&database).await, broker());
    let panics = desk.handle(broker.deliver().unwrap(), |_| Box::pin(async { panic!("as the test wants it") })).await;
    assert!(matches!(panics, Settled::Retried { attempt: 1, .. }), "{panics:?}");
    assert_eq!(booked(&database, "m").await, 0);
    let record = loop {
        // It is abandoned in the background.
        let record = desk.idempotency.inspect("billing/book", "m").await.unwrap().unwrap();
        if !matches!(record.state, State::Running { .. }) {
            break record;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    assert_eq!((record.state, record.failed), (State::Abandoned, 0));
    assert!(matches!(desk.book(broker.deliver().unwrap()).await, Settled::Done));
    assert_eq!(database.number("SELECT attempt FROM booked").await, 2);
}

async fn a_delivery_that_is_dropped_is_rolled_back(database: Database) {
    let (desk, broker) = (Desk::open(&database).await, broker());
    let gate = Gate::new();
    let waits = gate.clone();
    let handled = desk.handle(broker.deliver().unwrap(), move |_| {
        Box::pin(async move {
            waits.pass().await;
            Ok(())
        })
    });
    tokio::select! {
        settled = handled => panic!("{settled:?}"),
        () = gate.reached(1) => {}
    }
    let settled = loop {
        // The run is abandoned in the background.
        match desk.book(broker.deliver().unwrap()).await {
            Settled::Busy { .. } => tokio::time::sleep(Duration::from_millis(5)).await,
            settled => break settled,
        }
    };
    assert!(matches!(settled, Settled::Done));
    assert_eq!(booked(&database, "m").await, 1);
    assert_eq!(database.number("SELECT attempt FROM booked").await, 2);
}

async fn a_pool_of_another_database_is_refused_before_the_handler_runs(database: Database) {
    let other = match &database {
        Database::Postgres(_) => Database::postgres().await,
        Database::Sqlite(_) => Database::sqlite().await,
    };
    let (mut desk, broker) = (Desk::open(&database).await, broker());
    desk.pool = Desk::open(&other).await.pool;
    let runs = Arc::new(AtomicUsize::new(0));
    for _ in 0..12 {
        let counted = Arc::clone(&runs);
        let settled = desk.handle(broker.deliver().unwrap(), move |_| {
            counted.fetch_add(1, Ordering::Relaxed);
            Box::pin(async { Ok(()) })
        });
        let settled = settled.await;
        assert!(matches!(settled, Settled::Busy { .. }), "{settled:?}");
    }
    assert_eq!(runs.load(Ordering::Relaxed), 0);
    assert_eq!(booked(&other, "m").await, 0);
    // No attempt was used up.
    desk.pool = Desk::open(&database).await.pool;
    assert!(matches!(desk.book(broker.deliver().unwrap()).await, Settled::Done));
    assert_eq!(database.number("SELECT attempt FROM booked").await, 1);
}
