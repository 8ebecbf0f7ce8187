//! The embedded broker: a queue in a table. It keeps messages, hides those that were delivered for a while, and delivers them again.

use std::time::Duration;

use futures_util::stream::{self, Stream};
use idempotent_examples::say;
use idempotent_runtime::consumer::{BoxError, Dead, Delivery, Message};
use sqlx::{Pool, query, query_as};
use tokio::time::sleep;

use super::{Db, HIDE, TAKE, service::LEASE};

/// The pause between two looks into an empty queue.
const PAUSE: Duration = Duration::from_millis(25);

/// A topic of the table.
pub(super) struct Queue {
    pool: Pool<Db>,
    topic: &'static str,
}

impl Queue {
    pub(super) fn new(pool: &Pool<Db>, topic: &'static str) -> Self {
        Self { pool: pool.clone(), topic }
    }

    /// The deliveries, without end.
    pub(super) fn deliveries(self) -> impl Stream<Item = Received> {
        stream::unfold(self, async |queue| Some((queue.next().await, queue)))
    }

    async fn next(&self) -> Received {
        loop {
            let taken = query_as(TAKE).bind(self.topic).bind(millis(LEASE)).fetch_optional(&self.pool).await;
            match taken {
                Ok(Some((number, id, payload, deliveries))) => {
                    return Received { pool: self.pool.clone(), number, id, payload, deliveries };
                }
                Ok(None) => {}
                Err(error) => say(format_args!("the queue: {error}")),
            }
            sleep(PAUSE).await;
        }
    }
}

/// A delivery. Its number of deliveries tells whether it is still this consumer's.
pub(super) struct Received {
    pool: Pool<Db>,
    number: i64,
    id: String,
    payload: Vec<u8>,
    deliveries: i64,
}

impl Delivery for Received {
    fn message(&self) -> Message<'_> {
        Message::new(Some(&self.id), &self.payload)
    }

    fn deliveries(&self) -> Option<u32> {
        u32::try_from(self.deliveries).ok()
    }

    /// Not less than the lease of the record: others would take a message that is being worked off.
    fn visibility(&self) -> Option<Duration> {
        Some(LEASE)
    }

    async fn extend(&self) -> Result<(), BoxError> {
        self.hide(LEASE).await
    }

    async fn ack(self) -> Result<(), BoxError> {
        let delete = query("DELETE FROM queue WHERE id = $1 AND deliveries = $2");
        self.settled(delete.bind(self.number).bind(self.deliveries).execute(&self.pool).await?.rows_affected())
    }

    async fn retry(self, after: Duration) -> Result<(), BoxError> {
        self.hide(after).await
    }

    async fn reject(self, why: &Dead) -> Result<(), BoxError> {
        let bury = query("UPDATE queue SET dead = $3 WHERE id = $1 AND deliveries = $2");
        let bury = bury.bind(self.number).bind(self.deliveries).bind(why.as_str());
        self.settled(bury.execute(&self.pool).await?.rows_affected())
    }
}

impl Received {
    async fn hide(&self, time: Duration) -> Result<(), BoxError> {
        let hide = query(HIDE).bind(self.number).bind(self.deliveries).bind(millis(time));
        self.settled(hide.execute(&self.pool).await?.rows_affected())
    }

    fn settled(&self, rows: u64) -> Result<(), BoxError> {
        if rows == 1 { Ok(()) } else { Err(format!("message {} was delivered again", self.number).into()) }
    }
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}
