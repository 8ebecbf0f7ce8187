//! RabbitMQ, as a producer has it.

use idempotent_examples::rabbitmq::declare;
use lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties,
    options::{BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions},
    types::FieldTable,
};
use tokio::sync::Mutex;

use super::Outbound;
use crate::Failure;

/// The delivery mode of a message that survives a restart of the server.
const PERSISTENT: u8 = 2;

pub(crate) struct Rabbitmq {
    url: String,
    /// A channel that failed is not used again.
    open: Mutex<Option<(Connection, Channel)>>,
}

impl Rabbitmq {
    /// Connects, and declares the queues.
    pub(crate) async fn connect(url: &str, queues: &[&str], max_attempts: u32) -> Result<Self, Failure> {
        let (connection, channel) = connect(url).await?;
        for queue in queues {
            declare(&channel, queue, max_attempts).await?;
        }
        Ok(Self { url: url.to_owned(), open: Mutex::new(Some((connection, channel))) })
    }

    pub(crate) async fn send(&self, messages: &[Outbound<'_>]) -> Result<(), Failure> {
        let mut open = self.open.lock().await;
        let (connection, channel) = match open.take() {
            Some(open) => open,
            None => connect(&self.url).await?,
        };
        let mut confirmations = Vec::new();
        for Outbound { topic, id, payload } in messages {
            let properties = BasicProperties::default().with_delivery_mode(PERSISTENT).with_message_id((*id).into());
            let sent =
                channel.basic_publish("".into(), (*topic).into(), BasicPublishOptions::default(), payload, properties);
            confirmations.push(sent.await?);
        }
        for confirmation in confirmations {
            if !confirmation.await?.is_ack() {
                return Err("RabbitMQ has not confirmed a message".into());
            }
        }
        *open = Some((connection, channel));
        Ok(())
    }

    /// The messages that wait in a queue, without those that a consumer has.
    pub(crate) async fn waiting(&self, queue: &str) -> Result<u64, Failure> {
        let mut open = self.open.lock().await;
        let (connection, channel) = match open.take() {
            Some(open) => open,
            None => connect(&self.url).await?,
        };
        let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::durable() };
        let state = channel.queue_declare(queue.into(), options, FieldTable::default()).await?;
        *open = Some((connection, channel));
        Ok(state.message_count().into())
    }
}

async fn connect(url: &str) -> lapin::Result<(Connection, Channel)> {
    let connection = Connection::connect(url, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    Ok((connection, channel))
}
