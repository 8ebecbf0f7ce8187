//! Messages that are given up.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use idempotent_runtime::{
    Error, Idempotency,
    consumer::{Dead, Inbox, Limits, Replay, Settled},
    step,
    testing::{ScriptedBroker, ScriptedMessage, SettleFault, SettleKind},
};
use idempotent_tests::{database::Database, on_each_database};

use crate::desk::{Desk, Failed, booked, broker, message};

on_each_database! {
    t06_a_handler_that_always_fails_is_run_so_often_and_no_more,
    t08_a_permanent_error_is_dead_after_the_first_attempt,
    t12_a_message_without_an_id_is_dead,
    t13_a_replay_runs_as_the_first_attempt,
    t13_two_operators_have_it_run_once,
    t13_a_replay_that_fails_is_dead_again,
    a_payload_that_is_too_large_is_dead_without_it,
    a_replay_does_not_repeat_steps,
    a_replay_that_conflicts_is_dead_again,
    a_replay_can_be_discarded,
    a_local_cache_does_not_hide_a_replay,
    a_letter_can_be_discarded,
}

async fn t06_a_handler_that_always_fails_is_run_so_often_and_no_more(database: Database) {
    let broker = broker();
    let desk = Desk::open_with(&database, |inbox| inbox.max_attempts(3)).await;
    let runs = Arc::new(AtomicUsize::new(0));
    let mut last = None;
    for _ in 0..3 {
        let counted = Arc::clone(&runs);
        last = Some(
            desk.handle(broker.deliver().unwrap(), move |_| {
                counted.fetch_add(1, Ordering::Relaxed);
                Box::pin(async { Err(Failed::Now) })
            })
            .await,
        );
    }
    assert!(matches!(last, Some(Settled::Dead(Dead::Exhausted { attempts: 3, .. }))), "{last:?}");
    assert_eq!(runs.load(Ordering::Relaxed), 3);
    assert!(broker.is_empty());
    let letters = desk.inbox.dead_letters(0, 10).await.unwrap();
    let [letter] = &letters[..] else { panic!("{letters:?}") };
    assert_eq!((&*letter.reason, letter.attempts, letter.error.as_deref()), ("exhausted", 3, Some("Now")));
    assert_eq!(letter.payload.as_deref(), Some(&br#"{"id":"m"}"#[..]));
    assert_eq!(booked(&database, "m").await, 0);
    // It may come again, and is given up again without being run.
    broker.send(message("m"));
    assert!(matches!(desk.book(broker.deliver().unwrap()).await, Settled::Dead(Dead::Exhausted { .. })));
    assert_eq!(desk.inbox.dead_letters(0, 10).await.unwrap().len(), 1);
    assert_eq!(booked(&database, "m").await, 0);
}

async fn t08_a_permanent_error_is_dead_after_the_first_attempt(database: Database) {
    let (desk, broker) = (Desk::open(&database).await, broker());
    broker.next(SettleKind::Reject, SettleFault::LostRequest);
    let settled = desk.handle(broker.deliver().unwrap(), |_| Box::pin(async { Err(Failed::ForEver) })).await;
    assert!(matches!(settled, Settled::NotSettled(_)), "{settled:?}");
    // The broker did not hear of it, as after a kill: it is rejected again, and not run.
    assert!(matches!(desk.book(broker.deliver().unwrap()).await, Settled::Dead(Dead::Permanent)));
    assert_eq!(booked(&database, "m").await, 0);
    assert_eq!(desk.inbox.dead_letters(0, 10).await.unwrap().len(), 1);
    assert!(broker.is_empty());
}

async fn t12_a_message_without_an_id_is_dead(database: Database) {
    let (desk, broker) = (Desk::open(&database).await, ScriptedBroker::new());
    for id in [None, Some(String::new()), Some("x".repeat(100_000))] {
        broker.send(ScriptedMessage { id, ..message("m") });
        let settled = desk.book(broker.deliver().unwrap()).await;
        assert!(matches!(settled, Settled::Dead(Dead::NoId)), "{settled:?}");
    }
    assert_eq!(database.number("SELECT count(*) FROM booked").await, 0);
    let letters = desk.inbox.dead_letters(0, 10).await.unwrap();
    // They are one: no id, and one payload.
    assert_eq!(letters.len(), 1);
    assert_eq!(desk.inbox.replay(letters.first().unwrap().id).await.unwrap(), Replay::Taken);
}

/// Runs a loop until nothing is left to be replayed.
async fn work_off(desk: &Desk, database: &Database, broker: &ScriptedBroker, fails: bool) {
    let done = async {
        database.wait_for("SELECT count(*) FROM idempotent_records_dead WHERE state = 'replaying'", 0).await;
    };
    desk.run(broker, Limits::new(4), done, move |_, _| {
        Box::pin(async move { if fails { Err(Failed::ForEver) } else { Ok(()) } })
    })
    .await;
}

async fn dead(desk: &Desk, broker: &ScriptedBroker) -> i64 {
    let settled = desk.handle(broker.deliver().unwrap(), |_| Box::pin(async { Err(Failed::ForEver) })).await;
    assert!(matches!(settled, Settled::Dead(_)), "{settled:?}");
    desk.inbox.dead_letters(0, 10).await.unwrap().first().unwrap().id
}

async fn t13_a_replay_runs_as_the_first_attempt(database: Database) {
    let (desk, broker) = (Desk::open(&database).await, broker());
    let id = dead(&desk, &broker).await;
    assert_eq!(desk.inbox.replay(id).await.unwrap(), Replay::Asked);
    work_off(&desk, &database, &broker, false).await;
    assert_eq!(database.number("SELECT count(*) FROM booked WHERE attempt = 1").await, 1);
    assert_eq!(desk.inbox.dead_letters(0, 10).await.unwrap(), []);
    // The broker's late redelivery.
    broker.send(message("m"));
    assert!(matches!(desk.book(broker.deliver().unwrap()).await, Settled::Duplicate));
    assert_eq!(booked(&database, "m").await, 1);
}

async fn t13_two_operators_have_it_run_once(database: Database) {
    let (desk, other, broker) = (Desk::open(&database).await, Desk::open(&database).await, broker());
    let id = dead(&desk, &broker).await;
    let (first, second) = tokio::join!(desk.inbox.replay(id), other.inbox.replay(id));
    let mut answers = [first.unwrap(), second.unwrap()];
    answers.sort_by_key(|answer| *answer != Replay::Asked);
    assert_eq!(answers, [Replay::Asked, Replay::NotDead]);
    tokio::join!(work_off(&desk, &database, &broker, false), work_off(&other, &database, &broker, false));
    assert_eq!(booked(&database, "m").await, 1);
    assert_eq!(desk.inbox.replay(id).await.unwrap(), Replay::NotDead);
}

async fn t13_a_replay_that_fails_is_dead_again(database: Database) {
    let (desk, broker) = (Desk::open(&database).await, broker());
    let id = dead(&desk, &broker).await;
    assert_eq!(desk.inbox.replay(id).await.unwrap(), Replay::Asked);
    work_off(&desk, &database, &broker, true).await;
    let letters = desk.inbox.dead_letters(0, 10).await.unwrap();
    let [letter] = &letters[..] else { panic!("{letters:?}") };
    assert_eq!((letter.id, letter.is_replaying, letter.attempts), (id, false, 1));
    assert_eq!(booked(&database, "m").await, 0);
}

async fn a_payload_that_is_too_large_is_dead_without_it(database: Database) {
    let desk = Desk::open_with(&database, |inbox| inbox.max_payload_len(4)).await;
    let broker = ScriptedBroker::new();
    broker.send(ScriptedMessage::new("fits", "1234"));
    broker.send(ScriptedMessage::new("large", "12345"));
    assert!(matches!(desk.book(broker.deliver().unwrap()).await, Settled::Done));
    assert!(matches!(desk.book(broker.deliver().unwrap()).await, Settled::Dead(Dead::TooLarge)));
    let letters = desk.inbox.dead_letters(0, 10).await.unwrap();
    let letter = letters.first().unwrap();
    assert_eq!(letter.payload, None);
    assert_eq!(desk.inbox.replay(letter.id).await.unwrap(), Replay::Taken, "there is nothing to run");
    assert_eq!(broker.dead().len(), 1);
}

async fn a_letter_can_be_discarded(database: Database) {
    let (desk, broker) = (Desk::open(&database).await, broker());
    let id = dead(&desk, &broker).await;
    assert!(desk.inbox.discard(id).await.unwrap());
    assert!(!desk.inbox.discard(id).await.unwrap());
    assert_eq!(desk.inbox.replay(id).await.unwrap(), Replay::NotDead);
    // Its record still refuses the message.
    broker.send(message("m"));
    assert!(matches!(desk.book(broker.deliver().unwrap()).await, Settled::Dead(Dead::Permanent)));
}

/// Effects elsewhere: what a step has done before its message was given up is done.
async fn a_replay_does_not_repeat_steps(database: Database) {
    struct StepFailed;
    impl From<Error> for StepFailed {
        fn from(_: Error) -> Self {
            Self
        }
    }
    let (desk, broker) = (Desk::open(&database).await, broker());
    let charges = Arc::new(AtomicUsize::new(0));
    let handler = |charges: Arc<AtomicUsize>, end: Result<(), Failed>| async move {
        let charge = async {
            charges.fetch_add(1, Ordering::Relaxed);
            Ok::<_, StepFailed>(())
        };
        step("charge", charge).await.map_err(|_| Failed::Now)?;
        end
    };
    let settled = desk
        .inbox
        .handle(broker.deliver().unwrap(), async |_, _| handler(Arc::clone(&charges), Err(Failed::ForEver)).await);
    assert!(matches!(settled.await, Settled::Dead(Dead::Permanent)));
    let id = desk.inbox.dead_letters(0, 10).await.unwrap().first().unwrap().id;
    assert_eq!(desk.inbox.replay(id).await.unwrap(), Replay::Asked);
    let done = database.wait_for("SELECT count(*) FROM idempotent_records_dead", 0);
    let counted = Arc::clone(&charges);
    let summary = desk
        .inbox
        .run(broker.deliveries(), Limits::new(1), done, move |_, _| Box::pin(handler(Arc::clone(&counted), Ok(()))));
    assert_eq!(summary.await.done, 1);
    assert_eq!(charges.load(Ordering::Relaxed), 1);
    assert_eq!(database.number("SELECT count(*) FROM idempotent_records_steps").await, 0);
}

/// Its record has gone, and its id is another message's by now.
async fn a_replay_that_conflicts_is_dead_again(database: Database) {
    let (desk, broker) = (Desk::open(&database).await, broker());
    let id = dead(&desk, &broker).await;
    assert_eq!(desk.inbox.replay(id).await.unwrap(), Replay::Asked);
    database.execute("DELETE FROM idempotent_records").await;
    broker.send(ScriptedMessage::new("m", "another"));
    assert!(matches!(desk.book(broker.deliver().unwrap()).await, Settled::Done));
    work_off(&desk, &database, &broker, false).await;
    let letters = desk.inbox.dead_letters(0, 10).await.unwrap();
    assert!(letters.iter().all(|letter| !letter.is_replaying) && letters.len() == 1, "{letters:?}");
    assert_eq!(booked(&database, "m").await, 1);
    assert_eq!(desk.inbox.replay(id).await.unwrap(), Replay::Taken);
}

async fn a_replay_can_be_discarded(database: Database) {
    let (desk, broker) = (Desk::open(&database).await, broker());
    let id = dead(&desk, &broker).await;
    assert_eq!(desk.inbox.replay(id).await.unwrap(), Replay::Asked);
    assert!(desk.inbox.discard(id).await.unwrap());
    let shutdown = tokio::time::sleep(Duration::from_millis(1500));
    let summary = desk.run(&broker, Limits::new(1), shutdown, |_, _| Box::pin(async { Ok(()) })).await;
    assert_eq!(summary.done, 0);
}

async fn a_local_cache_does_not_hide_a_replay(database: Database) {
    let (desk, broker) = (Desk::open(&database).await, broker());
    let cached = Idempotency::builder().local_cache(1 << 20).build(desk.store.clone());
    let cached = Inbox::<Failed>::builder(cached, "billing", "book").build().unwrap();
    let id = dead(&desk, &broker).await;
    broker.send(message("m"));
    let settled = cached.handle(broker.deliver().unwrap(), async |_, _| Ok(())).await;
    assert!(matches!(settled, Settled::Dead(Dead::Permanent)), "{settled:?}");
    assert_eq!(desk.inbox.replay(id).await.unwrap(), Replay::Asked);
    work_off(&desk, &database, &broker, false).await;
    broker.send(message("m"));
    let settled = cached.handle(broker.deliver().unwrap(), async |_, _| Ok(())).await;
    assert!(matches!(settled, Settled::Duplicate), "{settled:?}");
}
