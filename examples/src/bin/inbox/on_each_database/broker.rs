//! The broker, as producers have it: the program that sends the orders, and the relay of the outbox.

use idempotent_runtime::outbox::{OutboxMessage, PublishError, Publisher};
use sqlx::{Pool, query, query_scalar};

use super::{
    Db,
    service::{MAX_ATTEMPTS, ORDERS, PAYMENTS},
};
use crate::{
    Failure,
    brokers::{Outbound, Rabbitmq, Redis},
};

pub(super) enum Sender {
    /// To the table `queue` of the database.
    Embedded(Pool<Db>),
    Rabbitmq(Box<Rabbitmq>),
    Redis(Redis),
}

impl Sender {
    /// Connects, and creates the queues.
    pub(super) async fn connect(broker: Option<&str>, pool: &Pool<Db>) -> Result<Self, Failure> {
        let topics = [ORDERS, PAYMENTS];
        match broker {
            None => Ok(Self::Embedded(pool.clone())),
            Some(url) if url.starts_with("amqp") => {
                Ok(Self::Rabbitmq(Box::new(Rabbitmq::connect(url, &topics, MAX_ATTEMPTS).await?)))
            }
            Some(url) => Ok(Self::Redis(Redis::connect(url, &topics).await?)),
        }
    }

    /// Sends messages, and waits until the broker has confirmed all of them.
    pub(super) async fn send(&self, messages: &[Outbound<'_>]) -> Result<(), Failure> {
        match self {
            Self::Embedded(pool) => {
                let mut tx = pool.begin().await?;
                for Outbound { topic, id, payload } in messages {
                    let send = query("INSERT INTO queue (topic, message_id, payload) VALUES ($1, $2, $3)");
                    send.bind(*topic).bind(*id).bind(*payload).execute(&mut *tx).await?;
                }
                Ok(tx.commit().await?)
            }
            Self::Rabbitmq(broker) => broker.send(messages).await,
            Self::Redis(broker) => broker.send(messages).await,
        }
    }

    /// The number of messages that are not settled.
    pub(super) async fn waiting(&self) -> Result<u64, Failure> {
        match self {
            Self::Embedded(pool) => {
                let count = query_scalar::<_, i64>("SELECT count(*) FROM queue WHERE dead IS NULL");
                Ok(u64::try_from(count.fetch_one(pool).await?)?)
            }
            Self::Rabbitmq(broker) => Ok(broker.waiting(ORDERS).await? + broker.waiting(PAYMENTS).await?),
            Self::Redis(broker) => Ok(broker.waiting(ORDERS).await? + broker.waiting(PAYMENTS).await?),
        }
    }
}

impl Publisher for Sender {
    async fn publish(&self, batch: &[OutboxMessage]) -> Vec<Result<(), PublishError>> {
        let messages: Vec<_> = batch
            .iter()
            .map(|message| Outbound { topic: &message.topic, id: &message.id, payload: &message.payload })
            .collect();
        let sent = self.send(&messages).await.map_err(|error| error.to_string());
        // Of a batch that failed, some may have arrived. All are sent again, with the same ids.
        batch.iter().map(|_| sent.clone().map_err(|error| PublishError::Retry(error.into()))).collect()
    }
}
