//! What a relay does with what the broker says.

use std::{
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use idempotent_runtime::outbox::{Outbox, OutboxMessage, Outgoing, Relay};
use idempotent_tests::wait::wait_for;
use tokio::{task::JoinHandle, time::Instant};

use super::support::{TAKE_THE_LEASE, Target};
use crate::broker::{Broker, Deed, first_arrivals};

const ROWS: &str = "SELECT count(*) FROM idempotent_records_outbox";
const PARKED: &str = "SELECT count(*) FROM idempotent_records_outbox WHERE state = 'parked'";

async fn publish(target: &Target, messages: &[(&str, &str)]) {
    let mut tx = target.begin().await;
    for (key, payload) in messages {
        let key = Some(*key).filter(|key| !key.is_empty());
        let outgoing = Outgoing { key, ..Outgoing::new("t", payload.as_bytes()) };
        Outbox::new().publish(&mut tx, outgoing).await.unwrap();
    }
    tx.commit().await.unwrap();
}

fn relay(target: &Target, broker: &Broker) -> Relay<Broker> {
    Relay::new(target.pool.clone(), broker.clone()).lease(Duration::from_secs(1)).backoff(Duration::from_millis(50))
}

/// Runs until it is dropped.
struct Running(JoinHandle<()>);

impl Running {
    fn start(relay: Relay<Broker>) -> Self {
        Self(tokio::spawn(async move { relay.run(pending()).await }))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn is(text: &'static str) -> impl Fn(&OutboxMessage) -> bool {
    move |message| message.payload == text.as_bytes()
}

async fn is_empty(target: &Target) {
    wait_for("an empty table", async || target.count(ROWS).await == 0).await;
}

#[tokio::test]
async fn what_is_committed_arrives_as_it_was() {
    let target = Target::create().await;
    let headers = [("content-type".to_owned(), "text/\"plain\"\0".to_owned()), (String::new(), "é".to_owned())];
    let mut tx = target.begin().await;
    let outgoing = Outgoing { label: None, topic: "t é", key: Some("k"), payload: &[0, 255], headers: &headers };
    let id = Outbox::new().publish(&mut tx, outgoing).await.unwrap();
    tx.commit().await.unwrap();
    let broker = Broker::new();
    let _relay = Running::start(relay(&target, &broker));
    broker.arrivals(1).await;
    let OutboxMessage { id: arrived, topic, key, payload, headers: with, .. } = broker.arrived().remove(0);
    assert_eq!((arrived, &*topic, key.as_deref(), &*payload), (id, "t é", Some("k"), &[0, 255][..]));
    assert_eq!(with, headers);
    is_empty(&target).await;
}

#[tokio::test]
async fn a_relay_of_another_table() {
    let target = Target::with_table("billing_records").await;
    let mut tx = target.begin().await;
    Outbox::new().table("billing_records").unwrap().publish(&mut tx, Outgoing::new("t", b"1")).await.unwrap();
    tx.commit().await.unwrap();
    let broker = Broker::new();
    assert!(relay(&target, &broker).table("a b").is_err());
    let _relay = Running::start(relay(&target, &broker).table("billing_records").unwrap());
    broker.arrivals(1).await;
}

/// By each way in which a publisher can fail to confirm.
#[tokio::test]
async fn t22_a_publisher_that_confirms_nothing_deletes_nothing() {
    let target = Target::create().await;
    publish(&target, &[("a", "a1"), ("a", "a2"), ("", "b")]).await;
    let broker = Broker::new();
    let _relay = Running::start(relay(&target, &broker).publish_timeout(Duration::from_millis(50)));
    for deed in [Deed::Retry, Deed::Silence, Deed::TakeOnly, Deed::Hang, Deed::Panic] {
        broker.now(move |_| deed);
        let calls = broker.calls();
        wait_for("more calls", async || broker.calls() > calls + 5).await;
        assert_eq!(target.count(ROWS).await, 3, "{deed:?}");
        assert!(!broker.payloads().contains(&"a2".to_owned()), "{deed:?}: the one before was not confirmed");
    }
    assert!(broker.dropped() > 5, "a call that hangs is broken off");
    broker.now(|_| Deed::Confirm);
    is_empty(&target).await;
    assert_eq!(first_arrivals(&broker.arrived())["a"], ["a1", "a2"]);
}

#[tokio::test]
async fn t22_a_permanent_failure_parks_one_row_and_holds_up_no_key() {
    let target = Target::create().await;
    publish(&target, &[("a", "a1"), ("a", "a2"), ("b", "b1"), ("a", "a3")]).await;
    let broker = Broker::that(|message| if is("a1")(message) { Deed::Permanent } else { Deed::Confirm });
    let _relay = Running::start(relay(&target, &broker));
    broker.arrivals(3).await;
    wait_for("one row, parked", async || target.count(ROWS).await == 1 && target.count(PARKED).await == 1).await;
    let arrived = first_arrivals(&broker.arrived());
    assert_eq!((&arrived["a"], &arrived["b"]), (&vec!["a2".to_owned(), "a3".to_owned()], &vec!["b1".to_owned()]));

    let outbox = Outbox::new();
    let parked = outbox.parked(&target.pool).await.unwrap();
    let [parked] = parked.as_slice() else { panic!("{parked:?}") };
    assert_eq!((&*parked.message.payload, parked.error.as_str()), (&b"a1"[..], &*"é".repeat(2 * 1024)));
    assert!(parked.age < Duration::from_secs(60));
    for nobody in ["", "no id", "00000000-0000-7000-8000-000000000000"] {
        assert!(!outbox.replay(&target.pool, nobody).await.unwrap());
        assert!(!outbox.discard(&target.pool, nobody).await.unwrap());
    }
    broker.now(|_| Deed::Confirm);
    assert!(outbox.replay(&target.pool, &parked.message.id).await.unwrap());
    broker.arrivals(4).await;
    is_empty(&target).await;

    broker.now(|_| Deed::Permanent);
    publish(&target, &[("c", "c1")]).await;
    wait_for("a parked row", async || target.count(PARKED).await == 1).await;
    let id = outbox.parked(&target.pool).await.unwrap().remove(0).message.id;
    assert!(outbox.discard(&target.pool, &id).await.unwrap());
    assert_eq!(target.count(ROWS).await, 0);
}

#[tokio::test]
async fn t22_a_key_stops_at_its_first_failure_and_others_go_on() {
    let target = Target::create().await;
    let broker = Broker::that(|message| if is("a2")(message) { Deed::Retry } else { Deed::Confirm });
    let _relay = Running::start(relay(&target, &broker));
    publish(&target, &[("a", "a1"), ("a", "a2"), ("a", "a3"), ("", "x")]).await;
    let others: Vec<String> = (0..300).map(|n| n.to_string()).collect();
    let others: Vec<_> = others.iter().map(|n| (n.as_str(), n.as_str())).collect();
    publish(&target, &others).await;
    broker.arrivals(302).await;
    assert!(!broker.payloads().contains(&"a3".to_owned()));
    broker.now(|_| Deed::Confirm);
    is_empty(&target).await;
    assert_eq!(first_arrivals(&broker.arrived())["a"], ["a1", "a2", "a3"]);
}

/// More messages of a key than a relay has in hand, before those of others.
#[tokio::test]
async fn a_long_queue_of_a_key_leaves_room_for_others() {
    let target = Target::create().await;
    let many: Vec<String> = (0..500).map(|n| format!("{n:03}")).collect();
    let mut messages: Vec<_> = many.iter().map(|n| ("long", n.as_str())).collect();
    messages.extend([("short", "s1"), ("", "s2")]);
    publish(&target, &messages).await;
    let broker = Broker::new();
    let _relay = Running::start(relay(&target, &broker).batch(10));
    broker.arrivals(502).await;
    let arrived = first_arrivals(&broker.arrived());
    assert_eq!(arrived["long"], many);
    let place = broker.payloads().iter().position(|payload| payload == "s1").unwrap();
    assert!(place < 200, "the short queue waited for {place} messages of the long one");
    is_empty(&target).await;
}

#[tokio::test]
async fn a_relay_that_lost_its_lease_stops_at_once() {
    let target = Target::create().await;
    let broker = Broker::that(|_| Deed::Hang);
    let relay = relay(&target, &broker).lease(Duration::from_millis(600));
    let _relay = Running::start(relay);
    publish(&target, &[("a", "a1"), ("b", "b1")]).await;
    wait_for("a call", async || broker.calls() == 1).await;
    target.execute(TAKE_THE_LEASE).await;
    let taken = Instant::now();
    wait_for("the end of the call", async || broker.dropped() == 1).await;
    assert!(taken.elapsed() < Duration::from_millis(600), "it stopped {:?} after it lost the lease", taken.elapsed());
    broker.now(|_| Deed::Confirm);
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!((broker.calls(), target.count(ROWS).await), (1, 2));
    // The other relay is gone.
    target.execute("DELETE FROM idempotent_records_relay").await;
    is_empty(&target).await;
}

#[tokio::test]
async fn a_lease_may_be_for_ever() {
    let (target, broker) = (Target::create().await, Broker::new());
    let relay = relay(&target, &broker).lease(Duration::MAX).publish_timeout(Duration::MAX).backoff(Duration::MAX);
    let _relay = Running::start(relay);
    publish(&target, &[("a", "a1")]).await;
    broker.arrivals(1).await;
    is_empty(&target).await;
}

/// The clock was wrong when a relay took the lease that is gone now.
#[tokio::test]
async fn a_lease_from_the_future_holds_up_nobody() {
    let target = Target::create().await;
    let broker = Broker::new();
    drop(Running::start(relay(&target, &broker)));
    let relay = Running::start(relay(&target, &broker));
    publish(&target, &[("a", "a1")]).await;
    broker.arrivals(1).await;
    drop(relay);
    target.execute(TAKE_THE_LEASE).await;
    target.execute("UPDATE idempotent_records_relay SET leased_at = lease_until").await;
    publish(&target, &[("a", "a2")]).await;
    let _relay = Running::start(self::relay(&target, &broker));
    broker.arrivals(2).await;
}

#[tokio::test]
async fn a_shutdown_ends_the_batch_and_gives_the_lease_back() {
    let target = Target::create().await;
    publish(&target, &[("a", "a1"), ("a", "a2"), ("b", "b1")]).await;
    let is_open = Arc::new(AtomicBool::new(false));
    let broker = Broker::new();
    let gate = Arc::clone(&is_open);
    broker.now(move |_| {
        gate.store(true, Ordering::SeqCst);
        Deed::Confirm
    });
    let relay = relay(&target, &broker);
    // It comes as soon as the first batch is with the broker.
    let shutdown = wait_for("a batch", async || is_open.load(Ordering::SeqCst));
    relay.run(shutdown).await;
    assert_eq!(target.count("SELECT count(*) FROM idempotent_records_relay").await, 0);
    let arrived = broker.arrived().len();
    assert_eq!(target.count(ROWS).await, 3 - i64::try_from(arrived).unwrap(), "what was confirmed is removed");
}

#[tokio::test]
async fn one_of_two_relays_is_at_work() {
    let target = Target::create().await;
    let (first, second) = (Broker::new(), Broker::new());
    let relay_one = Running::start(relay(&target, &first));
    publish(&target, &[("a", "a1")]).await;
    first.arrivals(1).await;
    let _relay_two = Running::start(relay(&target, &second));
    for n in 0..20 {
        publish(&target, &[("a", &n.to_string())]).await;
    }
    first.arrivals(21).await;
    assert_eq!(second.calls(), 0);
    drop(relay_one);
    publish(&target, &[("a", "last")]).await;
    second.arrivals(1).await;
}
