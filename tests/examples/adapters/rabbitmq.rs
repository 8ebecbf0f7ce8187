//! RabbitMQ.

use std::time::Duration;

use idempotent_examples::rabbitmq::{Deliveries, Delivery, dead_queue, declare};
use idempotent_runtime::consumer::{Dead, Delivery as _};
use idempotent_tests::{proxy::Proxy, rabbitmq_server::RabbitmqServer};
use lapin::{
    BasicProperties, Channel,
    options::{BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions},
    types::{AMQPValue, FieldTable},
};
use tokio::time::{Instant, sleep};

use crate::{in_time, nothing};

const MAX_ATTEMPTS: u32 = 1;
const POLL: Duration = Duration::from_millis(20);
const A_WHILE: Duration = Duration::from_millis(500);

/// A channel whose messages are confirmed, with this queue declared.
async fn open(server: &RabbitmqServer, queue: &str) -> Channel {
    let channel = server.client().await.create_channel().await.unwrap();
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    declare(&channel, queue, MAX_ATTEMPTS).await.unwrap();
    channel
}

async fn publish(channel: &Channel, queue: &str, payload: &str, properties: BasicProperties) {
    let (options, payload) = (BasicPublishOptions::default(), payload.as_bytes());
    let properties = properties.with_delivery_mode(2);
    let sent = channel.basic_publish("".into(), queue.into(), options, payload, properties).await.unwrap();
    assert!(sent.await.unwrap().is_ack());
}

fn with_id(id: &str) -> BasicProperties {
    BasicProperties::default().with_message_id(id.into())
}

/// Waits for a dead letter of this queue, and takes it.
async fn dead_letter(channel: &Channel, queue: &str) -> lapin::message::Delivery {
    let (queue, options) = (dead_queue(queue), BasicGetOptions { no_ack: true });
    in_time(async {
        loop {
            if let Some(letter) = channel.basic_get(queue.as_str().into(), options).await.unwrap() {
                return letter.delivery;
            }
            sleep(POLL).await;
        }
    })
    .await
}

async fn next(deliveries: &mut Deliveries) -> Delivery {
    in_time(deliveries.next()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delivery_is_settled_as_it_says() {
    let server = RabbitmqServer::start().await;
    every_field_is_there(&server).await;
    a_retry_comes_after_a_while(&server).await;
    a_rejected_message_is_a_dead_letter_and_can_be_sent_again(&server).await;
    a_message_that_is_never_settled_is_a_dead_letter(&server).await;
    what_is_not_settled_when_the_deliveries_are_dropped_comes_again(&server).await;
}

async fn every_field_is_there(server: &RabbitmqServer) {
    let channel = open(server, "fields").await;
    let mut headers = FieldTable::default();
    headers.insert("partition".into(), AMQPValue::LongString("order-17".into()));
    publish(&channel, "fields", "{}", with_id("m-1").with_type("charge".into()).with_headers(headers)).await;
    publish(&channel, "fields", "bare", BasicProperties::default()).await;
    let mut deliveries = Deliveries::new(&server.url(), "fields", 10);
    let full = next(&mut deliveries).await;
    let message = full.message();
    assert_eq!((message.id, message.payload, message.kind), (Some("m-1"), &b"{}"[..], Some("charge")));
    assert_eq!((message.partition, full.deliveries(), message.is_sent_again), (Some("order-17"), Some(1), false));
    assert_eq!(message.headers, [("partition".to_owned(), "order-17".to_owned())]);
    let bare = next(&mut deliveries).await;
    let message = bare.message();
    assert_eq!((message.id, message.payload, message.kind, message.partition), (None, &b"bare"[..], None, None));
    full.ack().await.unwrap();
    bare.ack().await.unwrap();
    drop(deliveries);
    nothing(A_WHILE, Deliveries::new(&server.url(), "fields", 10).next()).await;
}

async fn a_retry_comes_after_a_while(server: &RabbitmqServer) {
    let channel = open(server, "retries").await;
    for id in ["failing", "other"] {
        publish(&channel, "retries", "", with_id(id)).await;
    }
    let mut deliveries = Deliveries::new(&server.url(), "retries", 2);
    let began = Instant::now();
    next(&mut deliveries).await.retry(A_WHILE).await.unwrap();
    let other = next(&mut deliveries).await;
    assert_eq!(other.message().id, Some("other"));
    let again = next(&mut deliveries).await;
    assert!(began.elapsed() >= A_WHILE);
    assert_eq!((again.message().id, again.deliveries()), (Some("failing"), Some(2)));
    again.retry(Duration::ZERO).await.unwrap();
    let again = next(&mut deliveries).await;
    assert_eq!((again.message().id, again.deliveries()), (Some("failing"), Some(3)));
    again.ack().await.unwrap();
    other.ack().await.unwrap();
}

async fn a_rejected_message_is_a_dead_letter_and_can_be_sent_again(server: &RabbitmqServer) {
    let channel = open(server, "rejects").await;
    publish(&channel, "rejects", "poison", with_id("m-1")).await;
    let mut deliveries = Deliveries::new(&server.url(), "rejects", 1);
    next(&mut deliveries).await.reject(&Dead::Permanent).await.unwrap();
    let letter = dead_letter(&channel, "rejects").await;
    assert_eq!(letter.data, b"poison");
    // An operator moves it as it is, with its headers.
    publish(&channel, "rejects", "poison", letter.properties).await;
    let again = next(&mut deliveries).await;
    assert_eq!((again.message().id, again.message().is_sent_again), (Some("m-1"), true));
    again.ack().await.unwrap();
}

/// A process that dies of a message before it can count it.
async fn a_message_that_is_never_settled_is_a_dead_letter(server: &RabbitmqServer) {
    let channel = open(server, "limit").await;
    publish(&channel, "limit", "", with_id("m-1")).await;
    let mut deliveries = Deliveries::new(&server.url(), "limit", 1);
    for count in 1..=10 * MAX_ATTEMPTS + 1 {
        let delivery = next(&mut deliveries).await;
        assert_eq!(delivery.deliveries(), Some(count));
        delivery.retry(Duration::ZERO).await.unwrap();
    }
    let letter = dead_letter(&channel, "limit").await;
    assert_eq!(letter.properties.message_id().as_ref().unwrap().as_str(), "m-1");
}

async fn what_is_not_settled_when_the_deliveries_are_dropped_comes_again(server: &RabbitmqServer) {
    let channel = open(server, "drain").await;
    for id in ["settled", "runs", "prefetched"] {
        publish(&channel, "drain", "", with_id(id)).await;
    }
    let mut deliveries = Deliveries::new(&server.url(), "drain", 10);
    next(&mut deliveries).await.ack().await.unwrap();
    let runs = next(&mut deliveries).await;
    assert_eq!(runs.message().id, Some("runs"));
    drop(deliveries);
    runs.ack().await.unwrap_err();
    let mut others = Deliveries::new(&server.url(), "drain", 10);
    for id in ["runs", "prefetched"] {
        let again = next(&mut others).await;
        assert_eq!(again.message().id, Some(id));
        again.ack().await.unwrap();
    }
    nothing(A_WHILE, others.next()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deliveries_go_on_after_cuts_and_kills() {
    let mut server = RabbitmqServer::start().await;
    let proxy = Proxy::start(server.address()).await;
    let channel = open(&server, "orders").await;
    publish(&channel, "orders", "", with_id("m-1")).await;
    let mut deliveries = Deliveries::new(&server.url_at(proxy.address()), "orders", 10);
    let before = next(&mut deliveries).await;

    proxy.cut();
    let again = next(&mut deliveries).await;
    assert_eq!((again.message().id, again.deliveries()), (Some("m-1"), Some(2)));
    // It has the tag of the one that runs now.
    let error = before.ack().await.unwrap_err();
    assert!(error.to_string().contains("closed"), "{error}");

    server.wait_until_kept("orders").await;
    server.kill();
    server.restart().await;
    let last = next(&mut deliveries).await;
    assert_eq!(last.message().id, Some("m-1"));
    assert!(again.ack().await.is_err());
    last.ack().await.unwrap();
    nothing(A_WHILE, deliveries.next()).await;
}
