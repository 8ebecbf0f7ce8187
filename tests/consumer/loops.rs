//! Loops of consumers: partitions, backoff, visibility, drains.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use idempotent_runtime::{
    Backoff,
    consumer::{Limits, Settled},
    testing::{Gate, ScriptedBroker, SettleFault, SettleKind},
};
use idempotent_tests::{database::Database, on_each_database};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tokio::sync::oneshot;

use crate::desk::{Desk, Failed, booked, broker, message};

on_each_database! {
    t11_many_consumers_run_a_failing_message_once_an_interval,
    t15_a_handler_that_outlives_visibility_and_lease,
    t15_an_extension_that_fails_leads_to_a_duplicate,
    t16_a_drain_ends_what_runs_and_gives_the_rest_back,
    t16_a_drain_may_be_for_ever,
    t16_what_a_drain_breaks_off_is_not_counted,
    t18_each_partition_is_in_order,
    t18_what_waits_for_its_partition_stays_ours,
    t18_a_broker_that_does_not_answer_holds_no_partition_up,
    one_slot_is_enough_for_what_is_tried_again_in_place,
    t07_what_may_have_killed_runs_alone,
}

async fn t11_many_consumers_run_a_failing_message_once_an_interval(database: Database) {
    const PAUSE: Duration = Duration::from_millis(400);
    let broker = broker();
    let starts = Arc::new(Mutex::new(Vec::new()));
    let mut consumers = tokio::task::JoinSet::new();
    let gate = Gate::new();
    for _ in 0..12 {
        let desk =
            Desk::open_with(&database, |inbox| inbox.backoff(Backoff::constant(PAUSE)).wait(Duration::ZERO)).await;
        let (broker, starts, gate) = (broker.clone(), Arc::clone(&starts), gate.clone());
        consumers.spawn(async move {
            gate.pass().await;
            loop {
                let Some(delivery) = broker.deliver() else {
                    if broker.is_empty() {
                        return;
                    }
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    continue;
                };
                let starts = Arc::clone(&starts);
                let settled = desk.handle(delivery, move |run| {
                    Box::pin(async move {
                        starts.lock().unwrap().push(Instant::now());
                        if run.attempt() < 4 { Err(Failed::Now) } else { Ok(()) }
                    })
                });
                if !matches!(settled.await, Settled::Done) {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            }
        });
    }
    gate.open();
    consumers.join_all().await;
    let starts = starts.lock().unwrap().clone();
    assert_eq!(starts.len(), 4);
    for pair in starts.windows(2) {
        let [before, after] = pair else { unreachable!() };
        // The pause begins when the suspension is recorded, after the run has begun.
        assert!(after.duration_since(*before) >= PAUSE, "{starts:?}");
    }
    assert_eq!(booked(&database, "m").await, 1);
}

async fn t15_a_handler_that_outlives_visibility_and_lease(database: Database) {
    const TIME: Duration = Duration::from_millis(600);
    let broker = ScriptedBroker::new().with_visibility(TIME);
    broker.send(message("m"));
    broker.close();
    let runs = Arc::new(AtomicUsize::new(0));
    let mut consumers = Vec::new();
    for _ in 0..2 {
        let desk = Desk::open_with(&database, |inbox| inbox.lease(TIME)).await;
        let (broker, runs) = (broker.clone(), Arc::clone(&runs));
        consumers.push(async move {
            let handler = move |_, _| -> crate::desk::Then {
                runs.fetch_add(1, Ordering::Relaxed);
                Box::pin(async {
                    tokio::time::sleep(TIME * 3).await;
                    Ok(())
                })
            };
            desk.run(&broker, Limits::new(2), std::future::pending(), handler).await
        });
    }
    let mut consumers = consumers.into_iter();
    let (first, second) = tokio::join!(consumers.next().unwrap(), consumers.next().unwrap());
    assert_eq!((first.done + second.done, runs.load(Ordering::Relaxed)), (1, 1));
    assert_eq!(booked(&database, "m").await, 1);
    assert!(broker.count(SettleKind::Extend) >= 6);
    assert_eq!(broker.count(SettleKind::Drop), 0);
}

async fn t15_an_extension_that_fails_leads_to_a_duplicate(database: Database) {
    const TIME: Duration = Duration::from_secs(1);
    let broker = ScriptedBroker::new().with_visibility(TIME);
    broker.send(message("m"));
    for _ in 0..3 {
        broker.next(SettleKind::Extend, SettleFault::LostRequest);
    }
    let desk = Desk::open(&database).await;
    let gate = Gate::new();
    let first = broker.deliver().unwrap();
    let owner = tokio::spawn({
        let (desk, gate) = (desk.clone(), gate.clone());
        async move {
            desk.handle(first, move |_| {
                Box::pin(async move {
                    gate.pass().await;
                    Ok(())
                })
            })
            .await
        }
    });
    gate.reached(1).await;
    // The broker takes it back, and hands it to another.
    let second = loop {
        match broker.deliver() {
            Some(delivery) => break delivery,
            None => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    };
    gate.open();
    let owner = owner.await.unwrap();
    assert!(matches!(owner, Settled::NotSettled(_)), "its delivery is not ours any more: {owner:?}");
    assert!(matches!(desk.book(second).await, Settled::Duplicate));
    assert_eq!(booked(&database, "m").await, 1);
}

async fn t16_a_drain_ends_what_runs_and_gives_the_rest_back(database: Database) {
    // On SQLite one handler runs at a time, and takes no other delivery.
    let is_exclusive = matches!(database, Database::Sqlite(_));
    let running = if is_exclusive { 1 } else { 5 };
    let broker = ScriptedBroker::new();
    for number in 0..running {
        broker.send(message(number).with_partition(format!("partition {number}")));
    }
    // What was taken, and waits for its partition.
    for number in running..50 {
        broker.send(message(number).with_partition("partition 0"));
    }
    let desk = Desk::open(&database).await;
    let (gate, entered) = (Gate::new(), Arc::new(AtomicUsize::new(0)));
    let (stop, stopped) = oneshot::channel::<()>();
    let consumer = tokio::spawn({
        let (desk, broker, gate, entered) = (desk.clone(), broker.clone(), gate.clone(), Arc::clone(&entered));
        async move {
            let shutdown = async { drop(stopped.await) };
            desk.run(&broker, Limits::new(running + 1), shutdown, move |_, _| {
                entered.fetch_add(1, Ordering::Relaxed);
                let gate = gate.clone();
                Box::pin(async move {
                    gate.pass().await;
                    Ok(())
                })
            })
            .await
        }
    });
    gate.reached(running).await;
    while !is_exclusive && broker.waiting() > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    stop.send(()).unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    gate.open();
    let summary = consumer.await.unwrap();
    let given_back = if is_exclusive { 0 } else { 50 - running as u64 };
    assert_eq!((summary.done, summary.given_back, summary.broken_off), (running as u64, given_back, 0));
    assert_eq!(entered.load(Ordering::Relaxed), running);
    assert_eq!(broker.waiting(), 50 - running);
    // Their attempts are unchanged.
    broker.close();
    desk.run(&broker, Limits::new(4), std::future::pending(), |_, _| Box::pin(async { Ok(()) })).await;
    assert_eq!(database.number("SELECT count(*) FROM booked WHERE attempt = 1").await, 50);
}

async fn t16_a_drain_may_be_for_ever(database: Database) {
    let (desk, broker) = (Desk::open(&database).await, broker());
    broker.close();
    let limits = Limits { drain: Duration::MAX, ..Limits::new(2) };
    let summary = desk.run(&broker, limits, std::future::pending(), |_, _| Box::pin(async { Ok(()) })).await;
    assert_eq!((summary.done, summary.broken_off), (1, 0));
}

async fn t16_what_a_drain_breaks_off_is_not_counted(database: Database) {
    let (desk, broker) = (Desk::open(&database).await, broker());
    let gate = Gate::new();
    let (stop, stopped) = oneshot::channel::<()>();
    let consumer = tokio::spawn({
        let (desk, broker, gate) = (desk.clone(), broker.clone(), gate.clone());
        async move {
            let limits = Limits { drain: Duration::from_millis(50), ..Limits::new(2) };
            desk.run(&broker, limits, async { drop(stopped.await) }, move |_, _| {
                let gate = gate.clone();
                Box::pin(async move {
                    gate.pass().await;
                    Ok(())
                })
            })
            .await
        }
    });
    gate.reached(1).await;
    stop.send(()).unwrap();
    let summary = consumer.await.unwrap();
    assert_eq!((summary.done, summary.broken_off), (0, 1));
    assert_eq!(broker.settlements("m"), [SettleKind::Drop]);
    assert_eq!(booked(&database, "m").await, 0);
    let desk = Desk::open(&database).await;
    assert!(matches!(desk.book(broker.deliver().unwrap()).await, Settled::Done));
    assert_eq!(database.number("SELECT attempt FROM booked").await, 1);
}

async fn t18_each_partition_is_in_order(database: Database) {
    let (keys, each) = if matches!(database, Database::Sqlite(_)) { (10, 10) } else { (40, 25) };
    let seed = rand::random::<u64>();
    println!("seed {seed}");
    let broker = ScriptedBroker::new();
    for number in 0..each {
        for key in 0..keys {
            broker.send(message(format!("{key}-{number}")).with_partition(key.to_string()));
        }
    }
    broker.close();
    let desk = Desk::open_with(&database, |inbox| inbox.max_attempts(100)).await;
    let random = Arc::new(Mutex::new(StdRng::seed_from_u64(seed)));
    let done: Arc<Mutex<HashMap<String, Vec<usize>>>> = Arc::default();
    let (failing, finished) = (Arc::new(AtomicUsize::new(0)), Arc::clone(&done));
    let first_fails = Arc::clone(&failing);
    let summary = desk.run(&broker, Limits::new(16), std::future::pending(), move |id, _| {
        let (key, number) = id.split_once('-').unwrap();
        let (key, number) = (key.to_owned(), number.parse::<usize>().unwrap());
        let fails = random.lock().unwrap().random_bool(0.1);
        // Partition 0 fails until all others are done, and delays none of them.
        let others =
            finished.lock().unwrap().iter().filter(|(of, _)| *of != "0").map(|(_, of)| of.len()).sum::<usize>();
        let is_stuck = key == "0" && number == 0 && others < (keys - 1) * each;
        let (finished, failing) = (Arc::clone(&finished), Arc::clone(&first_fails));
        Box::pin(async move {
            if is_stuck {
                failing.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(100)).await;
                return Err(Failed::Now);
            }
            if fails {
                return Err(Failed::Now);
            }
            finished.lock().unwrap().entry(key).or_default().push(number);
            Ok(())
        })
    });
    let summary = summary.await;
    assert_eq!((summary.done, summary.dead), ((keys * each) as u64, 0), "{summary:?}");
    assert!(failing.load(Ordering::Relaxed) > 0);
    for (key, numbers) in &*done.lock().unwrap() {
        assert_eq!(*numbers, (0..each).collect::<Vec<_>>(), "{key}");
    }
    assert_eq!(database.number("SELECT count(*) FROM booked").await, (keys * each) as i64);
}

async fn t18_what_waits_for_its_partition_stays_ours(database: Database) {
    const TIME: Duration = Duration::from_millis(300);
    let broker = ScriptedBroker::new().with_visibility(TIME);
    for number in 0..3 {
        broker.send(message(number).with_partition("one"));
    }
    broker.close();
    let desk = Desk::open(&database).await;
    let first = AtomicUsize::new(0);
    let summary = desk.run(&broker, Limits::new(4), std::future::pending(), move |id, _| {
        let is_slow = id == "0" && first.fetch_add(1, Ordering::Relaxed) == 0;
        Box::pin(async move {
            if is_slow {
                tokio::time::sleep(TIME * 4).await;
            }
            Ok(())
        })
    });
    assert_eq!(summary.await.done, 3);
    assert_eq!(broker.count(SettleKind::Drop), 0, "the broker took none back");
    assert_eq!(database.number("SELECT count(*) FROM booked").await, 3);
}

async fn t18_a_broker_that_does_not_answer_holds_no_partition_up(database: Database) {
    let broker = ScriptedBroker::new();
    for number in 0..3 {
        broker.send(message(number).with_partition("partition"));
    }
    broker.close();
    // The acknowledgement of the first one, for ever.
    broker.next(SettleKind::Ack, SettleFault::Hold(Gate::new()));
    let desk = Desk::open_with(&database, |inbox| inbox.lease(Duration::from_millis(300))).await;
    let handler = |_, _| -> crate::desk::Then { Box::pin(async { Ok(()) }) };
    let run = desk.run(&broker, Limits::new(2), std::future::pending(), handler);
    let summary = tokio::time::timeout(Duration::from_secs(20), run).await.expect("the partition goes on");
    assert_eq!((summary.done, summary.duplicates, summary.not_settled), (2, 1, 1), "{summary:?}");
    assert_eq!(broker.settlements("0"), [SettleKind::Drop, SettleKind::Ack]);
    assert_eq!(database.number("SELECT count(*) FROM booked").await, 3);
}

/// The broker has nothing more to deliver, and stays open.
async fn one_slot_is_enough_for_what_is_tried_again_in_place(database: Database) {
    let broker = ScriptedBroker::new();
    broker.send(message("m").with_partition("one"));
    let desk = Desk::open(&database).await;
    let done = async { database.wait_for("SELECT count(*) FROM booked", 1).await };
    let summary = desk.run(&broker, Limits::new(1), done, |_, run| {
        Box::pin(async move { if run.attempt() < 3 { Err(Failed::Now) } else { Ok(()) } })
    });
    let summary = summary.await;
    assert_eq!((summary.done, summary.retried), (1, 2));
}

/// Two of its runs have vanished. It waits without a claim, so that it uses up no attempt if the process dies meanwhile.
async fn t07_what_may_have_killed_runs_alone(database: Database) {
    // On SQLite handlers run one at a time anyway.
    if matches!(database, Database::Sqlite(_)) {
        return;
    }
    let (broker, desk) = (broker(), Desk::open(&database).await);
    for _ in 0..2 {
        let settled =
            desk.handle(broker.deliver().unwrap(), |_| Box::pin(async { panic!("as the test wants it") })).await;
        assert!(matches!(settled, Settled::Retried { .. }));
        database.wait_for("SELECT count(*) FROM idempotent_records WHERE state = 'abandoned'", 1).await;
    }
    broker.send(message("neighbour"));
    let (suspect, neighbour) = (broker.deliver().unwrap(), broker.deliver().unwrap());
    let gate = Gate::new();
    let beside = tokio::spawn({
        let (desk, gate) = (desk.clone(), gate.clone());
        async move {
            desk.handle(neighbour, move |_| {
                Box::pin(async move {
                    gate.pass().await;
                    Ok(())
                })
            })
            .await
        }
    });
    gate.reached(1).await;
    let alone = tokio::spawn({
        let desk = desk.clone();
        async move { desk.book(suspect).await }
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!alone.is_finished());
    assert_eq!(database.number("SELECT count(*) FROM idempotent_records WHERE state = 'running'").await, 1);
    gate.open();
    assert!(matches!(beside.await.unwrap(), Settled::Done));
    assert!(matches!(alone.await.unwrap(), Settled::Done));
    assert_eq!(database.number("SELECT attempt FROM booked WHERE message = 'm'").await, 3);
}
