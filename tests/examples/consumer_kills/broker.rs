//! The brokers: sending messages, and looking at what is left of them.

use std::{
    collections::BTreeMap,
    sync::{Arc, Weak},
    time::Duration,
};

use idempotent_examples::rabbitmq::{dead_queue, declare, declare_ordered};
use idempotent_tests::{
    proxy::Proxy,
    rabbitmq_server::RabbitmqServer,
    redis_server::{RedisProgram, RedisServer},
    wait::wait_for,
};
use lapin::{
    BasicProperties, Channel, Confirmation, Connection, ConnectionProperties,
    options::{BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable},
};
use redis::{AsyncCommands as _, aio::MultiplexedConnection, streams::StreamRangeReply};
use tokio::{sync::Mutex, time::timeout};

use crate::plan::Source;

/// The time that one batch of messages may take to be confirmed, before it is sent again.
const CONFIRMED_WITHIN: Duration = Duration::from_secs(10);

/// A server takes four seconds of a processor to start. Those tests share one that run at the same time.
static SHARED: Mutex<Weak<RabbitmqServer>> = Mutex::const_new(Weak::new());

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Rabbitmq,
    Redis,
}

/// A broker with a queue. On Redis that is a stream, read by the group `billing`.
#[expect(clippy::large_enum_variant, reason = "a test has one")]
pub(crate) enum Broker {
    Rabbitmq(Arc<RabbitmqServer>),
    Redis(RedisServer),
}

/// A message to send.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) id: String,
    pub(crate) payload: String,
    pub(crate) partition: Option<String>,
}

impl Broker {
    /// One that nobody kills.
    pub(crate) async fn shared(kind: Kind) -> Self {
        if kind == Kind::Redis {
            return Self::own(kind).await;
        }
        let mut shared = SHARED.lock().await;
        if let Some(server) = shared.upgrade() {
            return Self::Rabbitmq(server);
        }
        let server = Arc::new(RabbitmqServer::start().await);
        *shared = Arc::downgrade(&server);
        Self::Rabbitmq(server)
    }

    /// One of the test's own.
    pub(crate) async fn own(kind: Kind) -> Self {
        match kind {
            Kind::Rabbitmq => Self::Rabbitmq(Arc::new(RabbitmqServer::start().await)),
            Kind::Redis => Self::Redis(RedisProgram::Redis.start_durable().await),
        }
    }

    pub(crate) fn address(&self) -> String {
        match self {
            Self::Rabbitmq(server) => server.address(),
            Self::Redis(server) => server.address(),
        }
    }

    /// Creates a queue that outlives a kill.
    pub(crate) async fn create(&self, queue: &str, max_attempts: u32, is_ordered: bool) {
        match self {
            Self::Rabbitmq(server) => {
                let channel = server.client().await.create_channel().await.unwrap();
                let declared = if is_ordered {
                    declare_ordered(&channel, queue, max_attempts).await
                } else {
                    declare(&channel, queue, max_attempts).await
                };
                declared.unwrap();
            }
            Self::Redis(server) => {
                let created = server.client().await.xgroup_create_mkstream(queue, "billing", "0").await;
                let () = created.unwrap();
            }
        }
    }

    /// A source that notices within seconds when a consumer is frozen.
    pub(crate) fn source(&self, queue: &str, through: Option<&Proxy>) -> Source {
        let address = through.map_or_else(|| self.address(), |proxy| proxy.address().to_string());
        match self {
            Self::Rabbitmq(server) => {
                Source::Rabbitmq { url: server.url_at(address) + "?heartbeat=2", queue: queue.to_owned() }
            }
            Self::Redis(_) => Source::Redis { url: format!("redis://{address}"), stream: queue.to_owned() },
        }
    }

    pub(crate) async fn send(&self, queue: &str, messages: &[Sent]) {
        self.sender().send(queue, messages).await.unwrap();
    }

    pub(crate) fn sender(&self) -> Sender {
        match self {
            Self::Rabbitmq(server) => Sender::Rabbitmq { url: server.url(), open: None },
            Self::Redis(server) => Sender::Redis { url: server.url(), open: None },
        }
    }

    /// Takes the dead letters: their ids, each with the reason where the broker has one.
    pub(crate) async fn dead(&self, queue: &str) -> Vec<(String, Option<String>)> {
        match self {
            Self::Rabbitmq(server) => {
                let channel = server.client().await.create_channel().await.unwrap();
                let (name, options) = (dead_queue(queue), BasicGetOptions { no_ack: true });
                let mut dead = Vec::new();
                while let Some(letter) = channel.basic_get(name.as_str().into(), options).await.unwrap() {
                    dead.push((letter.properties.message_id().as_ref().unwrap().to_string(), None));
                }
                dead
            }
            Self::Redis(server) => {
                let letters: StreamRangeReply =
                    server.client().await.xrange_all(format!("{queue}:dead")).await.unwrap();
                letters.ids.iter().map(|letter| (letter.get("id").unwrap(), letter.get("dead"))).collect()
            }
        }
    }

    /// The number of messages that wait. Those with a consumer count on Redis only.
    pub(crate) async fn waiting(&self, queue: &str) -> u64 {
        match self {
            Self::Rabbitmq(server) => {
                let channel = server.client().await.create_channel().await.unwrap();
                let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::durable() };
                let state = channel.queue_declare(queue.into(), options, FieldTable::default()).await.unwrap();
                state.message_count().into()
            }
            Self::Redis(server) => {
                let script = "local group = redis.call('XINFO', 'GROUPS', KEYS[1])[1]
                    return group[6] + (group[12] or 0)";
                server.command(&["EVAL", script, "1", queue]).await
            }
        }
    }

    /// Waits until nothing is left, after all consumers have ended.
    pub(crate) async fn wait_until_empty(&self, queue: &str) {
        wait_for("an empty queue", async || self.waiting(queue).await == 0).await;
    }

    /// Waits until a kill loses nothing that was confirmed.
    pub(crate) async fn wait_until_kept(&self, queue: &str) {
        if let Self::Rabbitmq(server) = self {
            server.wait_until_kept(queue).await;
            server.wait_until_kept(&dead_queue(queue)).await;
        }
    }

    /// Kills the server, and starts it again after a while.
    pub(crate) async fn kill_for(&mut self, pause: Duration) {
        match self {
            Self::Rabbitmq(server) => {
                let server = Arc::get_mut(server).expect("a server of its own");
                server.kill();
                tokio::time::sleep(pause).await;
                server.restart().await;
            }
            Self::Redis(server) => {
                server.kill();
                tokio::time::sleep(pause).await;
                server.restart().await;
            }
        }
    }
}

/// A producer.
#[expect(clippy::large_enum_variant, reason = "a test has one")]
pub(crate) enum Sender {
    Rabbitmq { url: String, open: Option<(Connection, Channel)> },
    Redis { url: String, open: Option<MultiplexedConnection> },
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

impl Sender {
    /// Sends messages in their order, and waits until the broker has confirmed them all.
    pub(crate) async fn send(&mut self, queue: &str, messages: &[Sent]) -> Result<(), BoxError> {
        timeout(CONFIRMED_WITHIN, self.try_send(queue, messages)).await?
    }

    async fn try_send(&mut self, queue: &str, messages: &[Sent]) -> Result<(), BoxError> {
        match self {
            Self::Rabbitmq { url, open } => {
                // What fails is sent again, on a new channel.
                let (connection, channel) = match open.take() {
                    Some(open) => open,
                    None => connect(url).await?,
                };
                let mut confirms = Vec::new();
                for message in messages {
                    let mut headers = FieldTable::default();
                    if let Some(partition) = &message.partition {
                        headers.insert("partition".into(), AMQPValue::LongString(partition.as_str().into()));
                    }
                    let properties = BasicProperties::default()
                        .with_delivery_mode(2)
                        .with_message_id(message.id.as_str().into())
                        .with_headers(headers);
                    let (options, payload) = (
                        BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() },
                        message.payload.as_bytes(),
                    );
                    confirms.push(channel.basic_publish("".into(), queue.into(), options, payload, properties).await?);
                }
                let mut refused = Vec::new();
                for (confirm, message) in confirms.into_iter().zip(messages) {
                    match confirm.await? {
                        Confirmation::Ack(None) => {}
                        // No queue has it: the broker confirms that it is gone.
                        Confirmation::Ack(Some(_)) => refused.push(format!("{} is returned", message.id)),
                        _ => refused.push(format!("{} is refused", message.id)),
                    }
                }
                if !refused.is_empty() {
                    return Err(refused.join(", ").into());
                }
                *open = Some((connection, channel));
            }
            Self::Redis { url, open } => {
                let mut connection = match open.take() {
                    Some(open) => open,
                    None => redis::Client::open(url.as_str())?.get_multiplexed_async_connection().await?,
                };
                let mut pipeline = redis::pipe();
                for Sent { id, payload, partition } in messages {
                    let mut fields = BTreeMap::from([("id", id), ("payload", payload)]);
                    fields.extend(partition.as_ref().map(|partition| ("partition", partition)));
                    pipeline.xadd_map(queue, "*", fields).ignore();
                }
                let () = pipeline.query_async(&mut connection).await?;
                *open = Some(connection);
            }
        }
        Ok(())
    }
}

async fn connect(url: &str) -> lapin::Result<(Connection, Channel)> {
    let connection = Connection::connect(url, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    Ok((connection, channel))
}
