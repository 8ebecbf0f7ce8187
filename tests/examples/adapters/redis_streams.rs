//! Redis Streams.

use std::time::Duration;

use idempotent_examples::redis_streams::{Consumer, Deliveries, Delivery};
use idempotent_runtime::consumer::{Dead, Delivery as _};
use idempotent_tests::{
    redis_server::{RedisProgram, RedisServer},
    wait::wait_for,
};
use redis::{AsyncCommands as _, streams::StreamRangeReply};
use tokio::time::{Instant, sleep};

use crate::{in_time, nothing};

const LEASE: Duration = Duration::from_secs(2);

async fn consumer(server: &RedisServer, name: &str) -> Deliveries {
    let stream = "orders".to_owned();
    let consumer = Consumer { stream, group: "billing".to_owned(), name: name.to_owned(), lease: LEASE };
    Deliveries::connect(&server.url(), consumer).await.unwrap()
}

async fn add(server: &RedisServer, fields: &[(&str, &str)]) {
    let _: String = server.client().await.xadd("orders", "*", fields).await.unwrap();
}

async fn entries(server: &RedisServer, stream: &str) -> StreamRangeReply {
    server.client().await.xrange_all(stream).await.unwrap()
}

async fn next(deliveries: &mut Deliveries) -> Delivery {
    in_time(deliveries.next()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_field_is_there() {
    let server = RedisProgram::Redis.start_durable().await;
    add(&server, &[("id", "m-1"), ("payload", "{}"), ("kind", "charge"), ("partition", "order-17")]).await;
    let mut deliveries = consumer(&server, "a").await;
    let full = next(&mut deliveries).await;
    let message = full.message();
    assert_eq!((message.id, message.payload, message.kind), (Some("m-1"), &b"{}"[..], Some("charge")));
    assert_eq!((message.partition, full.deliveries(), message.is_sent_again), (Some("order-17"), Some(1), false));
    assert_eq!(full.visibility(), Some(LEASE));
    add(&server, &[("payload", "bare")]).await;
    let bare = next(&mut deliveries).await;
    let message = bare.message();
    assert_eq!((message.id, message.payload, message.kind, message.partition), (None, &b"bare"[..], None, None));
    full.ack().await.unwrap();
    bare.ack().await.unwrap();
    nothing(2 * LEASE, deliveries.next()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retry_comes_after_a_while_though_before_the_end_of_the_lease() {
    let server = RedisProgram::Redis.start_durable().await;
    add(&server, &[("id", "m-1")]).await;
    let mut deliveries = consumer(&server, "a").await;
    let began = Instant::now();
    next(&mut deliveries).await.retry(LEASE / 2).await.unwrap();
    let again = next(&mut consumer(&server, "b").await).await;
    assert!(began.elapsed() >= LEASE / 2);
    assert_eq!((again.message().id, again.deliveries()), (Some("m-1"), Some(2)));
    let began = Instant::now();
    again.retry(10 * LEASE).await.unwrap();
    let again = next(&mut deliveries).await;
    assert!(began.elapsed() >= LEASE);
    assert_eq!(again.deliveries(), Some(3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_extended_delivery_stays_with_its_consumer() {
    let server = RedisProgram::Redis.start_durable().await;
    add(&server, &[("id", "m-1")]).await;
    let (mut ours, mut theirs) = (consumer(&server, "a").await, consumer(&server, "b").await);
    let delivery = next(&mut ours).await;
    for _ in 0..6 {
        sleep(LEASE / 3).await;
        delivery.extend().await.unwrap();
    }
    nothing(LEASE / 3, theirs.next()).await;
    let taken = next(&mut theirs).await;
    assert_eq!((taken.message().id, taken.deliveries()), (Some("m-1"), Some(2)));
    // Neither does it come back by that.
    let error = delivery.extend().await.unwrap_err();
    assert!(error.to_string().contains("another consumer"), "{error}");
    taken.extend().await.unwrap();
    // Whoever has done the work settles it.
    delivery.ack().await.unwrap();
    assert!(taken.extend().await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rejected_message_is_a_dead_letter_once_and_can_be_sent_again() {
    let server = RedisProgram::Redis.start_durable().await;
    add(&server, &[("id", "m-1"), ("payload", "poison")]).await;
    let mut ours = consumer(&server, "a").await;
    let first = next(&mut ours).await;
    let second = next(&mut consumer(&server, "b").await).await;
    second.reject(&Dead::Permanent).await.unwrap();
    first.reject(&Dead::Permanent).await.unwrap();
    let dead = entries(&server, "orders:dead").await;
    assert_eq!(dead.ids.len(), 1);
    let fields = ["id", "payload", "dead"].map(|name| dead.ids[0].get::<String>(name).unwrap());
    assert_eq!(fields, ["m-1", "poison", "permanent"]);

    add(&server, &[("id", &fields[0]), ("payload", &fields[1]), ("dead", &fields[2])]).await;
    let again = next(&mut ours).await;
    assert!(again.message().is_sent_again);
    again.reject(&Dead::Conflict).await.unwrap();
    let dead = entries(&server, "orders:dead").await;
    assert_eq!(dead.ids[1].get::<String>("dead").unwrap(), "conflict");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_consumer_had_when_it_ended_comes_first() {
    let server = RedisProgram::Redis.start_durable().await;
    let ids: Vec<String> = (0..15).map(|number| format!("m-{number}")).collect();
    for id in &ids {
        add(&server, &[("id", id)]).await;
    }
    let mut deliveries = consumer(&server, "a").await;
    next(&mut deliveries).await.ack().await.unwrap();
    for _ in 1..12 {
        next(&mut deliveries).await;
    }
    drop(deliveries);
    // It has the same name.
    let mut again = consumer(&server, "a").await;
    for id in &ids[1..] {
        let delivery = next(&mut again).await;
        assert_eq!(delivery.message().id, Some(id.as_str()));
        delivery.ack().await.unwrap();
    }
    nothing(2 * LEASE, again.next()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deliveries_go_on_after_a_kill() {
    let mut server = RedisProgram::Redis.start_durable().await;
    let mut deliveries = consumer(&server, "a").await;
    for id in ["m-1", "m-2"] {
        add(&server, &[("id", id)]).await;
    }
    let first = next(&mut deliveries).await;
    server.kill();
    first.extend().await.unwrap_err();
    server.restart().await;
    // An entry belongs to no connection.
    wait_for("a new connection", async || first.extend().await.is_ok()).await;
    first.ack().await.unwrap();
    let second = next(&mut deliveries).await;
    assert_eq!(second.message().id, Some("m-2"));
    second.ack().await.unwrap();
    add(&server, &[("id", "m-3")]).await;
    let third = next(&mut deliveries).await;
    assert_eq!(third.message().id, Some("m-3"));
    third.ack().await.unwrap();
    nothing(2 * LEASE, deliveries.next()).await;
}
