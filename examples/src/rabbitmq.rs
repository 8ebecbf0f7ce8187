//! RabbitMQ as a source of messages: a quorum queue whose deliveries are settled one by one.

use std::time::Duration;

use futures_util::{
    FutureExt as _,
    stream::{self, Stream},
};
use idempotent_runtime::consumer::{self, BoxError, Dead, Message};
use lapin::{
    Channel, Connection, ConnectionProperties, Consumer,
    message::Delivery as Received,
    options::{
        BasicAckOptions, BasicConsumeOptions, BasicNackOptions, BasicQosOptions, BasicRejectOptions,
        QueueDeclareOptions,
    },
    protocol::constants::REPLY_SUCCESS,
    types::{AMQPValue, FieldTable, ShortString},
};
use tokio::time::{sleep, timeout};
use tokio_stream::StreamExt as _;

use crate::say;

/// The pause before the next try to connect.
const PAUSE: Duration = Duration::from_secs(1);
/// The longest time that a connection may take.
const CONNECTED_WITHIN: Duration = Duration::from_secs(10);
/// The longest time for which a failed delivery is held: far below the server's `consumer_timeout`, which is half an hour.
const LONGEST_HOLD: Duration = Duration::from_mins(5);

/// The queue to which the broker moves what is rejected.
#[must_use]
pub fn dead_queue(queue: &str) -> String {
    format!("{queue}.dead")
}

/// Declares the queue, and the queue of its dead letters.
///
/// Do it before the first message comes: RabbitMQ 3.10 loses what a quorum queue has confirmed if the server is killed within
/// some seconds of the declaration.
///
/// # Errors
///
/// If the connection is lost, or a queue exists with other arguments.
pub async fn declare(channel: &Channel, queue: &str, max_attempts: u32) -> lapin::Result<()> {
    declare_with(channel, queue, max_attempts, false).await
}

/// Declares a queue whose messages have partitions: one consumer at a time gets them, however many there are, and another only
/// when all of the last one's are back. The order of a partition needs that.
///
/// It needs a producer, too, that waits for the confirm of a message before it sends the next one of its partition, and sends
/// again what is not confirmed: the server may refuse one message and take the next one. Let it set `mandatory`: RabbitMQ confirms
/// what no queue takes.
///
/// # Errors
///
/// As [`declare`].
pub async fn declare_ordered(channel: &Channel, queue: &str, max_attempts: u32) -> lapin::Result<()> {
    declare_with(channel, queue, max_attempts, true).await
}

async fn declare_with(channel: &Channel, queue: &str, max_attempts: u32, is_ordered: bool) -> lapin::Result<()> {
    let text = |value: &str| AMQPValue::LongString(value.into());
    let quorum = [("x-queue-type", text("quorum"))];
    // Dead letters go through the default exchange. They are confirmed by their queue before they leave this one, which
    // needs the overflow to be refused.
    let dead_letters = [
        ("x-dead-letter-exchange", text("")),
        ("x-dead-letter-routing-key", text(&dead_queue(queue))),
        ("x-dead-letter-strategy", text("at-least-once")),
        ("x-overflow", text("reject-publish")),
        // The broker counts every delivery, also those that were no attempt: given back, in flight elsewhere, waiting for
        // their backoff. Its limit is only for messages that are never settled.
        ("x-delivery-limit", AMQPValue::LongLongInt(10 * i64::from(max_attempts))),
        ("x-single-active-consumer", AMQPValue::Boolean(is_ordered)),
    ];
    let arguments = quorum.clone().into_iter().chain(dead_letters);
    for (name, arguments) in [(dead_queue(queue), quorum.to_vec()), (queue.to_owned(), arguments.collect())] {
        let mut table = FieldTable::default();
        for (argument, value) in arguments {
            table.insert(argument.into(), value);
        }
        channel.queue_declare(name.into(), QueueDeclareOptions::durable(), table).await?;
    }
    Ok(())
}

/// The deliveries of a queue. When it is dropped, its channel is closed, and the broker takes back what is not settled.
pub struct Deliveries {
    url: String,
    queue: String,
    prefetch: u16,
    open: Option<(Channel, Consumer)>,
}

impl Deliveries {
    /// Connects at the first delivery. `prefetch` is the number of deliveries that are not settled: those that run, and those
    /// that wait for their next attempt.
    #[must_use]
    pub fn new(url: &str, queue: &str, prefetch: u16) -> Self {
        Self { url: url.to_owned(), queue: queue.to_owned(), prefetch, open: None }
    }

    /// Waits for a delivery, and connects again as often as the connection is lost.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it loses nothing.
    pub async fn next(&mut self) -> Delivery {
        loop {
            match self.try_next().await {
                Ok(Some(delivery)) => return delivery,
                Ok(None) => say("the broker has cancelled the consumer"),
                Err(error) => say(format_args!("RabbitMQ: {error}")),
            }
            self.close();
            sleep(PAUSE).await;
        }
    }

    async fn try_next(&mut self) -> Result<Option<Delivery>, BoxError> {
        if self.open.is_none() {
            // A server that has just started may take a connection and never answer.
            self.open = Some(timeout(CONNECTED_WITHIN, self.connect()).await??);
        }
        let Some((channel, consumer)) = &mut self.open else { return Ok(None) };
        let received = consumer.next().await.transpose()?;
        Ok(received.map(|received| Delivery::new(received, channel.clone())))
    }

    /// The deliveries for [`Inbox::run`](idempotent_runtime::consumer::Inbox::run): a stream that never ends.
    pub fn stream(self) -> impl Stream<Item = Delivery> {
        stream::unfold(self, async |mut deliveries| Some((deliveries.next().await, deliveries)))
    }

    /// Closes the channel, without waiting for an answer.
    ///
    /// lapin would cancel the consumer that is dropped, and an ordered queue would change places: what is on its way to a cancelled
    /// consumer goes back before what it has, and the next consumer begins before the channel is closed and all is back.
    fn close(&mut self) {
        if let Some((channel, _consumer)) = self.open.take() {
            let _ = channel.close(REPLY_SUCCESS, "".into()).now_or_never();
        }
    }

    /// Opens a channel on a new connection. lapin could reconnect by itself, but the deliveries of the old channel would then
    /// acknowledge tags of the new one.
    async fn connect(&self) -> lapin::Result<(Channel, Consumer)> {
        let connection = Connection::connect(&self.url, ConnectionProperties::default()).await?;
        let channel = connection.create_channel().await?;
        channel.basic_qos(self.prefetch, BasicQosOptions::default()).await?;
        let (options, arguments) = (BasicConsumeOptions::default(), FieldTable::default());
        let consumer = channel.basic_consume(self.queue.as_str().into(), "".into(), options, arguments).await?;
        Ok((channel, consumer))
    }
}

impl Drop for Deliveries {
    fn drop(&mut self) {
        self.close();
    }
}

/// A delivery, to be settled once. It stays this consumer's until the channel ends: the server closes that after its
/// `consumer_timeout`, and nothing extends it. One that is dropped comes again when the channel has ended.
pub struct Delivery {
    received: Received,
    /// The headers that are text.
    headers: Vec<(String, String)>,
    /// A delivery tag belongs to its channel, which stays open as long as somebody holds it.
    channel: Channel,
}

impl Delivery {
    fn new(received: Received, channel: Channel) -> Self {
        let fields = received.properties.headers().iter().flat_map(FieldTable::inner);
        let text = fields.filter_map(|(name, value)| {
            let AMQPValue::LongString(value) = value else { return None };
            Some((name.to_string(), value.to_string()))
        });
        let headers = text.collect();
        Self { received, headers, channel }
    }

    fn header(&self, name: &str) -> Option<&AMQPValue> {
        self.received.properties.headers().as_ref()?.inner().get(name)
    }

    async fn give_back(self) -> Result<(), BoxError> {
        let options = BasicNackOptions { requeue: true, ..Default::default() };
        self.settled(self.received.nack(options).await)
    }

    /// lapin returns `false` where the channel was closed before: the broker then delivers the message again. Where the connection
    /// ends at this moment, lapin 4.12 may never return: the inbox waits for a lease, and goes on.
    fn settled(&self, sent: lapin::Result<bool>) -> Result<(), BoxError> {
        if sent? {
            return Ok(());
        }
        let id = self.channel.id();
        Err(format!("channel {id} of the delivery is closed: RabbitMQ delivers the message again").into())
    }
}

impl consumer::Delivery for Delivery {
    /// The producer sets the properties `message_id` and `type`, and the header `partition`. The order of a partition
    /// holds in a queue that is [ordered](declare_ordered). A message with `x-death` has been a dead letter, which an operator has moved back.
    fn message(&self) -> Message<'_> {
        let properties = &self.received.properties;
        let partition = self.headers.iter().find(|(name, _)| name == "partition").map(|(_, value)| value.as_str());
        Message::new(properties.message_id().as_ref().map(ShortString::as_str), &self.received.data)
            .with_kind(properties.kind().as_ref().map(ShortString::as_str))
            .with_partition(partition)
            .with_headers(&self.headers)
            .sent_again(self.header("x-death").is_some())
    }

    fn deliveries(&self) -> Option<u32> {
        let before = self.header("x-delivery-count").and_then(AMQPValue::as_long_long_int).unwrap_or_default();
        u32::try_from(before + 1).ok()
    }

    async fn ack(self) -> Result<(), BoxError> {
        self.settled(self.received.ack(BasicAckOptions::default()).await)
    }

    async fn retry(self, after: Duration) -> Result<(), BoxError> {
        if after.is_zero() {
            return self.give_back().await;
        }
        // RabbitMQ has no delays: given back, it would be delivered at once, and go round until its backoff is over. So it is
        // held, and takes one of the places of the prefetch meanwhile. Those behind it overtake it, as they would anyway: a
        // message that is given back has lost its place. If the channel or this process ends, the broker has it back.
        tokio::spawn(async move {
            sleep(after.min(LONGEST_HOLD)).await;
            self.give_back().await
        });
        Ok(())
    }

    /// Has the broker move it to the queue of dead letters. `basic.reject` takes no reason: that is in the store's dead letter.
    async fn reject(self, _: &Dead) -> Result<(), BoxError> {
        self.settled(self.received.reject(BasicRejectOptions { requeue: false }).await)
    }
}
