//! RabbitMQ: quorum queues, with publisher confirms and acknowledgements by hand.

use std::time::Duration;

use idempotent_tests::{proxy::Proxy, rabbitmq_server::RabbitmqServer};
use lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties, Consumer,
    message::Delivery,
    options::{
        BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
        QueueDeclareOptions,
    },
    types::{AMQPValue, FieldTable},
};
use tokio::time::timeout;
use tokio_stream::StreamExt as _;

const QUEUE: &str = "orders";
const PERSISTENT: u8 = 2;
/// As long as a busy machine may need.
const DEADLINE: Duration = Duration::from_secs(30);

async fn declare(channel: &Channel) {
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    channel.queue_declare(QUEUE.into(), QueueDeclareOptions::durable(), arguments).await.unwrap();
}

/// Publishes messages that have their text for an id, and waits for the broker's confirms.
async fn publish(connection: &Connection, texts: &[&str]) {
    let channel = connection.create_channel().await.unwrap();
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    for &text in texts {
        let properties = BasicProperties::default().with_delivery_mode(PERSISTENT).with_message_id(text.into());
        let options = BasicPublishOptions::default();
        let sent = channel.basic_publish("".into(), QUEUE.into(), options, text.as_bytes(), properties).await.unwrap();
        let confirmed = timeout(DEADLINE, sent).await.expect("a confirm in time").unwrap();
        assert!(confirmed.is_ack());
    }
}

async fn consume(connection: &Connection) -> (Channel, Consumer) {
    let channel = connection.create_channel().await.unwrap();
    declare(&channel).await;
    // So that the next delivery says that the acknowledgement of the one before has come.
    channel.basic_qos(1, BasicQosOptions::default()).await.unwrap();
    let options = BasicConsumeOptions::default();
    let consumer = channel.basic_consume(QUEUE.into(), "".into(), options, FieldTable::default()).await.unwrap();
    (channel, consumer)
}

async fn next(consumer: &mut Consumer) -> Delivery {
    timeout(DEADLINE, consumer.next()).await.expect("a delivery in time").unwrap().unwrap()
}

/// The text, whether it was delivered before, and how often, as quorum queues count it.
fn seen(delivery: &Delivery) -> (&str, bool, Option<i64>) {
    let text = std::str::from_utf8(&delivery.data).unwrap();
    assert_eq!(delivery.properties.message_id().as_ref().unwrap().as_str(), text);
    let count = delivery.properties.headers().as_ref().and_then(|headers| headers.inner().get("x-delivery-count"));
    (text, delivery.redelivered, count.and_then(AMQPValue::as_long_long_int))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unacknowledged_messages_outlive_connections_and_kills() {
    let mut server = RabbitmqServer::start().await;
    let proxy = Proxy::start(server.address()).await;
    let publisher = server.client().await;
    declare(&publisher.create_channel().await.unwrap()).await;
    publish(&publisher, &["first", "second"]).await;

    let url = server.url_at(proxy.address());
    let connection = Connection::connect(&url, ConnectionProperties::default()).await.unwrap();
    let (_channel, mut consumer) = consume(&connection).await;
    let first = next(&mut consumer).await;
    assert_eq!(seen(&first), ("first", false, None));
    assert!(first.ack(BasicAckOptions::default()).await.unwrap());
    let second = next(&mut consumer).await;
    assert_eq!(seen(&second), ("second", false, None));

    // The connection is cut before the second message is acknowledged.
    proxy.cut();
    assert!(consumer.next().await.unwrap().is_err());
    assert_eq!(
        second.ack(BasicAckOptions::default()).await.ok(),
        Some(false),
        "an acknowledgement on a closed channel"
    );
    let (_channel, mut consumer) = consume(&publisher).await;
    assert_eq!(seen(&next(&mut consumer).await), ("second", true, Some(1)));

    server.wait_until_kept(QUEUE).await;
    server.kill();
    assert!(consumer.next().await.unwrap().is_err());
    server.restart().await;
    let connection = server.client().await;
    publish(&connection, &["third"]).await;
    let (_channel, mut consumer) = consume(&connection).await;
    for expected in ["second", "third"] {
        let delivery = next(&mut consumer).await;
        assert_eq!(seen(&delivery).0, expected);
        assert!(delivery.ack(BasicAckOptions::default()).await.unwrap());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_consumer_timeout_takes_a_delivery_away() {
    let server = RabbitmqServer::start_with_consumer_timeout(Duration::from_secs(2)).await;
    let connection = server.client().await;
    let (channel, mut consumer) = consume(&connection).await;
    publish(&connection, &["slow"]).await;
    let slow = next(&mut consumer).await;
    let closed = timeout(DEADLINE, consumer.next()).await.expect("an end in time").unwrap().unwrap_err();
    assert!(closed.to_string().contains("PRECONDITION"), "{closed}");
    assert!(!channel.status().connected());
    assert_eq!(slow.ack(BasicAckOptions::default()).await.ok(), Some(false));
    // The connection is well, and other channels of it.
    let (_channel, mut consumer) = consume(&connection).await;
    assert_eq!(seen(&next(&mut consumer).await), ("slow", true, Some(1)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_server_goes_on_where_it_was() {
    let server = RabbitmqServer::start().await;
    let connection = server.client().await;
    let (_channel, mut consumer) = consume(&connection).await;
    server.pause();
    let publishing = tokio::spawn(async move { publish(&connection, &["late"]).await });
    assert!(timeout(Duration::from_millis(300), consumer.next()).await.is_err());
    server.resume();
    publishing.await.unwrap();
    assert_eq!(seen(&next(&mut consumer).await).0, "late");
}
