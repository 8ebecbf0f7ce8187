//! Messages that are given up while the store fails: exactly one letter each, and nothing is rejected before it is on record.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use idempotent_runtime::{
    consumer::{Dead, Limits, Replay, Settled},
    testing::{Fault, Gate, Method, ScriptedBroker, ScriptedMessage, SettleKind},
};
use idempotent_tests::{database::Database, on_each_database};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

use crate::desk::{Desk, Failed, booked, broker, message};

on_each_database! {
    t08_a_letter_is_on_record_before_the_rejection,
    t08_a_burial_that_was_lost_is_asked_for_again,
    t08_a_consumer_that_leaves_while_it_buries,
    t13_a_replay_whose_answers_are_lost,
    t14_a_store_that_is_down_at_the_burial,
    t14_a_store_whose_answers_to_burials_are_lost,
    t14_a_store_that_is_down_at_a_letter_without_a_run,
    t14_a_store_that_fails_at_random,
}

async fn letters(database: &Database) -> i64 {
    database.number("SELECT count(*) FROM idempotent_records_dead").await
}

/// Handles the broker's next message with a handler that says that it always fails.
async fn fail(desk: &Desk, broker: &ScriptedBroker, runs: &Arc<AtomicUsize>) -> Settled {
    let runs = Arc::clone(runs);
    let handled = desk.handle(broker.deliver().unwrap(), move |_| {
        runs.fetch_add(1, Ordering::Relaxed);
        Box::pin(async { Err(Failed::ForEver) })
    });
    handled.await
}

/// Handles the message again and again, until another consumer's run of it is over.
async fn fail_in_turn(desk: &Desk, broker: &ScriptedBroker, runs: &Arc<AtomicUsize>) -> Settled {
    loop {
        match fail(desk, broker, runs).await {
            Settled::Busy { .. } => tokio::time::sleep(Duration::from_millis(20)).await,
            settled => return settled,
        }
    }
}

/// None of them was acknowledged, or rejected.
fn assert_kept(broker: &ScriptedBroker) {
    assert_eq!((broker.count(SettleKind::Ack), broker.count(SettleKind::Reject)), (0, 0));
}

async fn t08_a_letter_is_on_record_before_the_rejection(database: Database) {
    let desk = Desk::open(&database).await;
    let mut before = 0;
    for (method, is_applied) in [(Method::Bury, false), (Method::Bury, true), (Method::Put, false), (Method::Put, true)]
    {
        let broker = ScriptedBroker::new();
        let id = format!("{method:?}-{is_applied}");
        if method == Method::Put {
            // Its id is another message's.
            broker.send(message(&id));
            assert!(matches!(desk.book(broker.deliver().unwrap()).await, Settled::Done));
            broker.send(ScriptedMessage::new(&*id, "another"));
        } else {
            broker.send(message(&id));
        }
        let rejected = broker.count(SettleKind::Reject);
        let gate = Gate::new();
        desk.store
            .next(method, [if is_applied { Fault::HoldAfter(gate.clone()) } else { Fault::HoldBefore(gate.clone()) }]);
        let consumer = tokio::spawn({
            let (desk, broker) = (desk.clone(), broker.clone());
            async move { fail(&desk, &broker, &Arc::default()).await }
        });
        gate.reached(1).await;
        assert_eq!(letters(&database).await, before + i64::from(is_applied), "{id}");
        assert_eq!(broker.count(SettleKind::Reject), rejected, "{id}");
        assert!(!consumer.is_finished());
        gate.open();
        let settled = consumer.await.unwrap();
        assert!(matches!(settled, Settled::Dead(Dead::Permanent | Dead::Conflict)), "{id}: {settled:?}");
        before += 1;
        assert_eq!(letters(&database).await, before, "{id}");
        assert_eq!(broker.count(SettleKind::Reject), rejected + 1);
        assert!(broker.is_empty());
    }
}

async fn t08_a_burial_that_was_lost_is_asked_for_again(database: Database) {
    let desk = Desk::open_with(&database, |inbox| inbox.max_attempts(1)).await;
    for (id, error) in [("permanent", Failed::ForEver), ("exhausted", Failed::Now)] {
        let broker = ScriptedBroker::new();
        broker.send(message(id));
        let asked = desk.store.calls(Method::Bury);
        desk.store.next(Method::Bury, [Fault::LOST_REQUEST, Fault::LOST_REPLY, Fault::LOST_REQUEST]);
        let settled = desk.handle(broker.deliver().unwrap(), move |_| Box::pin(async move { Err(error) })).await;
        assert!(matches!(&settled, Settled::Dead(why) if why.as_str() == id), "{settled:?}");
        assert_eq!(desk.store.calls(Method::Bury) - asked, 4);
        assert_eq!(broker.settlements(id), [SettleKind::Reject]);
    }
    let letters = desk.inbox.dead_letters(0, 10).await.unwrap();
    let reasons: Vec<_> = letters.iter().map(|letter| (&*letter.reason, letter.attempts)).collect();
    assert_eq!(reasons, [("permanent", 1), ("exhausted", 1)]);
    assert_eq!(database.number("SELECT count(*) FROM booked").await, 0);
}

async fn t08_a_consumer_that_leaves_while_it_buries(database: Database) {
    for is_applied in [false, true] {
        let desk = Desk::open_with(&database, |inbox| inbox.wait(Duration::ZERO)).await;
        let (broker, runs) = (ScriptedBroker::new(), Arc::default());
        broker.send(message(is_applied));
        let before = letters(&database).await;
        let gate = Gate::new();
        desk.store.next(
            Method::Bury,
            [if is_applied { Fault::HoldAfter(gate.clone()) } else { Fault::HoldBefore(gate.clone()) }],
        );
        tokio::select! {
            settled = fail(&desk, &broker, &runs) => panic!("{settled:?}"),
            () = gate.reached(1) => {}
        }
        // Its delivery is the broker's again, and the burial goes on without it.
        assert_eq!(broker.waiting(), 1);
        if !is_applied {
            let settled = fail(&desk, &broker, &runs).await;
            assert!(matches!(settled, Settled::Busy { .. }), "{settled:?}");
            assert_eq!(letters(&database).await, before);
        }
        assert_kept(&broker);
        gate.open();
        let settled = fail_in_turn(&desk, &broker, &runs).await;
        assert!(matches!(settled, Settled::Dead(Dead::Permanent)), "{settled:?}");
        assert_eq!((letters(&database).await, runs.load(Ordering::Relaxed)), (before + 1, 1));
        assert_eq!(broker.count(SettleKind::Reject), 1);
    }
}

async fn t13_a_replay_whose_answers_are_lost(database: Database) {
    let (desk, broker) = (Desk::open(&database).await, broker());
    assert!(matches!(fail(&desk, &broker, &Arc::default()).await, Settled::Dead(_)));
    let id = desk.inbox.dead_letters(0, 10).await.unwrap().first().unwrap().id;
    desk.store.next(Method::Replay, [Fault::LOST_REQUEST, Fault::LOST_REPLY]);
    assert!(desk.inbox.replay(id).await.is_err());
    assert_eq!(database.number("SELECT count(*) FROM idempotent_records_dead WHERE state = 'dead'").await, 1);
    assert!(desk.inbox.replay(id).await.is_err());
    assert_eq!(desk.inbox.replay(id).await.unwrap(), Replay::NotDead, "it was asked for");
    // Worked off, the letter is found again until the store says that it is gone.
    desk.store.next(Method::Replaying, [Fault::LOST_REQUEST]);
    desk.store.next(Method::Claim, [Fault::LOST_REQUEST, Fault::LOST_REPLY]);
    desk.store.next(Method::WorkedOff, [Fault::LOST_REQUEST, Fault::LOST_REPLY]);
    let gone = database.wait_for("SELECT count(*) FROM idempotent_records_dead", 0);
    let summary = desk.run(&broker, Limits::new(2), gone, |_, _| Box::pin(async { Ok(()) })).await;
    assert_eq!((summary.done + summary.duplicates + summary.not_settled, summary.dead), (2, 0), "{summary:?}");
    assert_eq!(database.number("SELECT count(*) FROM booked WHERE attempt = 1").await, 1);
    assert_eq!(booked(&database, "m").await, 1);
    // One that is given up once more is dead again, though the letter's own end is lost.
    broker.send(message("again"));
    assert!(matches!(fail(&desk, &broker, &Arc::default()).await, Settled::Dead(_)));
    let id = desk.inbox.dead_letters(0, 10).await.unwrap().first().unwrap().id;
    assert_eq!(desk.inbox.replay(id).await.unwrap(), Replay::Asked);
    desk.store.next(Method::Bury, [Fault::LOST_REPLY]);
    desk.store.next(Method::DeadAgain, [Fault::LOST_REQUEST]);
    let dead = async { desk.store.called(Method::DeadAgain, 1).await };
    desk.run(&broker, Limits::new(2), dead, |_, _| Box::pin(async { Err(Failed::ForEver) })).await;
    let letters = desk.inbox.dead_letters(0, 10).await.unwrap();
    let [letter] = &letters[..] else { panic!("{letters:?}") };
    assert_eq!((letter.id, letter.is_replaying), (id, false));
}

async fn t14_a_store_that_is_down_at_the_burial(database: Database) {
    let desk = Desk::open_with(&database, |inbox| inbox.lease(Duration::from_millis(400))).await;
    let (broker, runs) = (broker(), Arc::default());
    desk.store.always(Method::Bury, Fault::LOST_REQUEST);
    let settled = fail(&desk, &broker, &runs).await;
    assert!(matches!(settled, Settled::Retried { attempt: 1, .. }), "{settled:?}");
    assert_kept(&broker);
    assert_eq!(letters(&database).await, 0);
    desk.store.heal();
    // Nobody knows that it was given up: it runs once more.
    let settled = fail_in_turn(&desk, &broker, &runs).await;
    assert!(matches!(settled, Settled::Dead(Dead::Permanent)), "{settled:?}");
    assert_eq!(runs.load(Ordering::Relaxed), 2);
    let letters = desk.inbox.dead_letters(0, 10).await.unwrap();
    let [letter] = &letters[..] else { panic!("{letters:?}") };
    assert_eq!(letter.attempts, 2);
    assert!(broker.is_empty());
    assert_eq!(booked(&database, "m").await, 0);
}

async fn t14_a_store_whose_answers_to_burials_are_lost(database: Database) {
    let desk = Desk::open_with(&database, |inbox| inbox.lease(Duration::from_millis(400))).await;
    let (broker, runs) = (broker(), Arc::default());
    desk.store.always(Method::Bury, Fault::LOST_REPLY);
    let settled = fail(&desk, &broker, &runs).await;
    assert!(matches!(settled, Settled::Retried { attempt: 1, .. }), "{settled:?}");
    assert!(desk.store.calls(Method::Bury) > 1);
    assert_kept(&broker);
    assert_eq!(letters(&database).await, 1);
    // The record knows, and no burial is needed.
    let settled = fail_in_turn(&desk, &broker, &runs).await;
    assert!(matches!(settled, Settled::Dead(Dead::Permanent)), "{settled:?}");
    assert_eq!((letters(&database).await, runs.load(Ordering::Relaxed)), (1, 1));
    assert!(broker.is_empty());
}

async fn t14_a_store_that_is_down_at_a_letter_without_a_run(database: Database) {
    let desk = Desk::open_with(&database, |inbox| inbox.max_payload_len(20)).await;
    let first = broker();
    assert!(matches!(desk.book(first.deliver().unwrap()).await, Settled::Done));
    let deadly = [
        ScriptedMessage::new("m", "another"),
        ScriptedMessage { id: None, ..message("nameless") },
        ScriptedMessage::new("large", "x".repeat(21)),
    ];
    for (number, deadly) in (0..).zip(deadly) {
        let broker = ScriptedBroker::new();
        broker.send(deadly);
        for (fault, written) in [(Fault::LOST_REQUEST, 0), (Fault::LOST_REPLY, 1), (Fault::LOST_REQUEST, 1)] {
            desk.store.always(Method::Put, fault);
            let settled = desk.book(broker.deliver().unwrap()).await;
            assert!(matches!(settled, Settled::Busy { .. }), "{settled:?}");
            assert_kept(&broker);
            assert_eq!(letters(&database).await, number + written);
        }
        desk.store.heal();
        let settled = desk.book(broker.deliver().unwrap()).await;
        assert!(matches!(settled, Settled::Dead(Dead::Conflict | Dead::NoId | Dead::TooLarge)), "{settled:?}");
        assert_eq!(letters(&database).await, number + 1);
        assert!(broker.is_empty());
    }
    assert_eq!(database.number("SELECT count(*) FROM booked").await, 1);
}

/// Requests and answers get lost, of every step that ends a message.
async fn t14_a_store_that_fails_at_random(database: Database) {
    const MESSAGES: usize = 60;
    /// More than the faults that one message can meet at its end.
    const MAX_ATTEMPTS: u32 = 8;
    let seed = rand::random::<u64>();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let broker = ScriptedBroker::new();
    let kind_of = |number: usize| ["ok", "ok", "permanent", "exhausted", "conflict"][number % 5];
    for number in 0..MESSAGES {
        let kind = kind_of(number);
        let times = if random.random_bool(0.2) { 2 } else { 1 };
        for _ in 0..times {
            broker.send(message(format!("{kind}-{number}")));
        }
        if kind == "conflict" {
            broker.send(ScriptedMessage::new(format!("{kind}-{number}"), "another"));
        }
    }
    broker.close();
    let desk = Desk::open_with(&database, |inbox| inbox.max_attempts(MAX_ATTEMPTS)).await;
    for (method, count) in
        [(Method::Claim, 40), (Method::Suspend, 40), (Method::Bury, 40), (Method::Put, 20), (Method::End, 6)]
    {
        let faults = (0..count).map(|_| match random.random_range(0..4) {
            0 => Fault::LOST_REQUEST,
            1 => Fault::LOST_REPLY,
            _ => Fault::Delay(Duration::ZERO),
        });
        desk.store.next(method, faults.collect::<Vec<_>>());
    }
    let summary = desk.run(&broker, Limits::new(8), std::future::pending(), |id, _| {
        Box::pin(async move {
            match id.split_once('-').unwrap().0 {
                "permanent" => Err(Failed::ForEver),
                "exhausted" => Err(Failed::Now),
                _ => Ok(()),
            }
        })
    });
    let summary = summary.await;
    assert!(broker.is_empty(), "{summary:?}");
    // Of two messages with one id, either may have been the first.
    let counts = "SELECT count(*) FROM booked";
    let successes = (0..MESSAGES).filter(|number| matches!(kind_of(*number), "ok" | "conflict")).count();
    assert_eq!(database.number(counts).await, successes.cast_signed() as i64);
    assert_eq!(database.number("SELECT count(DISTINCT message) FROM booked").await, successes.cast_signed() as i64);
    let letters = desk.inbox.dead_letters(0, 1000).await.unwrap();
    let mut found: Vec<_> =
        letters.iter().map(|letter| (letter.message_id.clone().unwrap(), letter.reason.clone())).collect();
    found.sort();
    let mut expected: Vec<_> = (0..MESSAGES)
        .filter(|number| kind_of(*number) != "ok")
        .map(|number| (format!("{}-{number}", kind_of(number)), kind_of(number).to_owned()))
        .collect();
    expected.sort();
    assert_eq!(found, expected);
    for (id, reason) in expected {
        let is_rejected =
            |(message, why): &(ScriptedMessage, Dead)| message.id.as_deref() == Some(&*id) && why.as_str() == reason;
        assert!(broker.dead().iter().any(is_rejected), "{id} was not rejected");
    }
}
