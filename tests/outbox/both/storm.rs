//! Relays that are killed, a broker that is away and forgets to answer, writers that roll back, and an inbox behind it.

use std::{
    collections::HashMap,
    future::pending,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use idempotent_runtime::{
    consumer::{BoxError, Dead, Delivery, Inbox, Message, Settled},
    outbox::{Outbox, OutboxMessage, Outgoing, Relay},
};
use idempotent_tests::wait::wait_for;
use rand::{Rng as _, RngExt as _, SeedableRng as _, rngs::StdRng};
use sqlx::Connection as _;
use tokio::time::sleep;

use super::support::Target;
use crate::broker::{Broker, Deed, first_arrivals};

const KEYS: usize = 8;
const MESSAGES: usize = 30;
const RELAYS: usize = 4;

/// What has arrived, as the next consumer gets it.
struct Received(OutboxMessage);

impl Delivery for Received {
    fn message(&self) -> Message<'_> {
        Message::new(Some(&self.0.id), &self.0.payload)
    }
    async fn ack(self) -> Result<(), BoxError> {
        Ok(())
    }
    async fn retry(self, _: Duration) -> Result<(), BoxError> {
        Ok(())
    }
    async fn reject(self, _: &Dead) -> Result<(), BoxError> {
        Ok(())
    }
}

/// Publishes the messages of a key, in order; some transactions and savepoints are rolled back.
async fn write(target: &Target, key: usize, seed: u64) {
    let mut random = StdRng::seed_from_u64(seed + key as u64);
    let (name, outbox) = (format!("key-{key}"), Outbox::new());
    let mut number = 0;
    while number < MESSAGES {
        let is_committed = random.random_range(0..4) > 0;
        let some = random.random_range(1..4).min(MESSAGES - number);
        let mut tx = target.begin().await;
        for n in number..number + some {
            let payload = format!("{n:03}");
            let outgoing = Outgoing { key: Some(&name), ..Outgoing::new("t", payload.as_bytes()) };
            let mut savepoint = tx.begin().await.unwrap();
            outbox.publish(&mut savepoint, outgoing).await.unwrap();
            if random.random_range(0..5) == 0 {
                savepoint.rollback().await.unwrap();
                outbox.publish(&mut tx, outgoing).await.unwrap();
            } else {
                savepoint.commit().await.unwrap();
            }
        }
        if is_committed {
            tx.commit().await.unwrap();
            number += some;
        } else {
            tx.rollback().await.unwrap();
        }
        sleep(Duration::from_millis(random.next_u64() % 20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t21_relays_are_killed_and_the_broker_is_away() {
    let seed: u64 = std::env::var("OUTBOX_SEED").ok().map_or_else(rand::random, |seed| seed.parse().unwrap());
    println!("OUTBOX_SEED={seed}");
    let seed = seed % (1 << 40);
    let target = Arc::new(Target::create().await);
    target.execute("CREATE TABLE effects (payload text NOT NULL)").await;

    let broker = Broker::new();
    let random = Mutex::new(StdRng::seed_from_u64(seed));
    let is_away = Arc::new(AtomicBool::new(false));
    let away = Arc::clone(&is_away);
    broker.now(move |_| {
        let dice = random.lock().unwrap().random_range(0..100);
        match dice {
            _ if away.load(Ordering::SeqCst) => Deed::Retry,
            0..5 => Deed::Retry,
            5..10 => Deed::TakeOnly,
            10 => Deed::Silence,
            11 => Deed::Hang,
            12 => Deed::Panic,
            _ => Deed::Confirm,
        }
    });
    let start = || {
        let relay = Relay::new(target.pool.clone(), broker.clone())
            .batch(5)
            .lease(Duration::from_millis(300))
            .publish_timeout(Duration::from_millis(60))
            .backoff(Duration::from_millis(30));
        tokio::spawn(async move { relay.run(pending()).await })
    };
    let writers = (0..KEYS).map(|key| {
        let target = Arc::clone(&target);
        tokio::spawn(async move { write(&target, key, seed).await })
    });
    let writers: Vec<_> = writers.collect();
    let mut relays: Vec<_> = (0..RELAYS).map(|_| start()).collect();
    let mut random = StdRng::seed_from_u64(seed + 1_000);
    for round in 0..12 {
        is_away.store((4..8).contains(&round), Ordering::SeqCst);
        sleep(Duration::from_millis(random.random_range(50..300))).await;
        let killed = random.random_range(0..RELAYS);
        relays[killed].abort();
        relays[killed] = start();
    }
    for writer in writers {
        writer.await.unwrap();
    }
    let rows = "SELECT count(*) FROM idempotent_records_outbox";
    wait_for("an empty table", async || target.count(rows).await == 0).await;
    relays.iter().for_each(tokio::task::JoinHandle::abort);

    let arrived = broker.arrived();
    let first = first_arrivals(&arrived);
    let expected: Vec<String> = (0..MESSAGES).map(|n| format!("{n:03}")).collect();
    assert_eq!(first.len(), KEYS);
    for (key, payloads) in &first {
        assert_eq!(payloads, &expected, "{key}");
    }
    let ids: HashMap<_, _> = arrived.iter().map(|message| (message.id.clone(), ())).collect();
    assert_eq!(ids.len(), KEYS * MESSAGES, "one id each");

    let inbox = Inbox::<sqlx::Error>::builder(target.idempotency.clone(), "billing", "count").build().unwrap();
    for message in arrived {
        let settled = inbox.handle_in(&target.pool, Received(message), |tx, message, _| {
            Box::pin(async move {
                let payload = String::from_utf8_lossy(message.payload).into_owned();
                let insert = sqlx::query("INSERT INTO effects (payload) VALUES ($1)").bind(payload);
                insert.execute(&mut **tx.0).await.map(drop)
            })
        });
        assert!(matches!(settled.await, Settled::Done | Settled::Duplicate));
    }
    let effects = target.count("SELECT count(*) FROM effects").await;
    assert_eq!(effects, i64::try_from(KEYS * MESSAGES).unwrap());
}
