//! A Redis Stream as a source of messages, read by a group of consumers.
//!
//! A message is an entry with the fields `id` and `payload`, and perhaps `kind` and `partition`. A settled entry stays in the
//! stream, for other groups: whoever adds entries trims the stream by age (`XADD … MINID`).

use std::{
    collections::VecDeque,
    sync::{Arc, LazyLock},
    time::Duration,
};

use futures_util::stream::{self, Stream};
use idempotent_runtime::consumer::{self, BoxError, Dead, Message};
use redis::{
    AsyncCommands as _, Client, FromRedisValue as _, RedisError, RedisResult, Script,
    aio::{ConnectionManager, ConnectionManagerConfig},
    streams::{
        StreamAutoClaimOptions, StreamAutoClaimReply, StreamId, StreamPendingCountReply, StreamReadOptions,
        StreamReadReply,
    },
};
use tokio::time::sleep;

use crate::{chain, say};

/// The pause before the next try to read.
const PAUSE: Duration = Duration::from_secs(1);
/// The time that a read waits for new entries, before entries of others are looked for.
const READ: Duration = Duration::from_millis(250);
const RESPONSE_DEADLINE: Duration = Duration::from_secs(5);
/// The number of entries that one read brings. Those that wait here grow older.
const BATCH: usize = 10;

/// Sets how long an entry has been idle, unless another consumer has claimed it: XCLAIM alone would take it back from a
/// consumer that is working on it.
static SET_IDLE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "if #redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[3], ARGV[3], 1, ARGV[2]) == 0 then return 0 end
        redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, ARGV[3], 'IDLE', ARGV[4], 'JUSTID')
        return 1",
    )
});
/// Settles an entry and adds it to the dead letters, unless somebody has settled it before.
static REJECT: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "if redis.call('XACK', KEYS[1], ARGV[1], ARGV[2]) == 1 then
            redis.call('XADD', KEYS[2], '*', unpack(ARGV, 3))
        end",
    )
});

/// A consumer of a group.
#[derive(Debug)]
pub struct Consumer {
    /// The stream. On a cluster its name has a hash tag, `{orders}`, so that the dead letters are in its slot.
    pub stream: String,
    /// The group.
    pub group: String,
    /// The consumer's own name in the group, which it keeps over restarts. Nobody deletes it: Redis would drop its pending
    /// entries.
    pub name: String,
    /// The time for which an entry is this consumer's without a sign of life: not less than the lease of the record.
    pub lease: Duration,
}

impl Consumer {
    /// The stream of the dead letters.
    #[must_use]
    pub fn dead_stream(&self) -> String {
        format!("{}:dead", self.stream)
    }
}

/// The deliveries to one consumer. When it is dropped, those that were not handed out wait for the end of their lease.
pub struct Deliveries {
    consumer: Arc<Consumer>,
    /// A blocking read holds up all that is sent on its connection.
    reads: ConnectionManager,
    commands: ConnectionManager,
    /// The last entry that was read.
    last: String,
    /// True once all have been read after that one which Redis has handed to this consumer before: to a process that has
    /// ended, or in a reply that was lost. They come before new ones, so that each partition stays in order.
    is_caught_up: bool,
    /// The position up to which the entries of others have been looked through.
    cursor: String,
    ready: VecDeque<Delivery>,
}

impl Deliveries {
    /// Connects, and creates the group if there is none.
    ///
    /// # Errors
    ///
    /// If Redis cannot be reached, or refuses the group.
    pub async fn connect(url: &str, consumer: Consumer) -> RedisResult<Self> {
        let client = Client::open(url)?;
        let config = ConnectionManagerConfig::new().set_response_timeout(Some(READ + RESPONSE_DEADLINE));
        let reads = client.get_connection_manager_with_config(config.clone()).await?;
        let mut commands = client.get_connection_manager_with_config(config).await?;
        let created = commands.xgroup_create_mkstream(&consumer.stream, &consumer.group, "0").await;
        created.or_else(|error: RedisError| if error.code() == Some("BUSYGROUP") { Ok(()) } else { Err(error) })?;
        let ([last, cursor], queued) = ([(); 2].map(|()| "0-0".to_owned()), VecDeque::new());
        Ok(Self { consumer: Arc::new(consumer), reads, commands, last, is_caught_up: false, cursor, ready: queued })
    }

    /// Waits for a delivery, and tries again as often as the connection is lost.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it loses nothing: what Redis has sent meanwhile is delivered again when its lease has ended.
    pub async fn next(&mut self) -> Delivery {
        loop {
            if let Some(delivery) = self.ready.pop_front() {
                return delivery;
            }
            if let Err(error) = self.read().await {
                say(format_args!("Redis: {}", chain(&error)));
                self.is_caught_up = false;
                sleep(PAUSE).await;
            }
        }
    }

    /// The deliveries for [`Inbox::run`](idempotent_runtime::consumer::Inbox::run): a stream that never ends.
    pub fn stream(self) -> impl Stream<Item = Delivery> {
        stream::unfold(self, async |mut deliveries| Some((deliveries.next().await, deliveries)))
    }

    async fn read(&mut self) -> RedisResult<()> {
        if !self.is_caught_up {
            let last = self.last.clone();
            self.is_caught_up = !self.read_after(&last, StreamReadOptions::default()).await?;
            return Ok(());
        }
        let Consumer { stream, group, name, lease } = &*self.consumer;
        let options = StreamAutoClaimOptions::default().count(BATCH);
        let claimed: StreamAutoClaimReply =
            self.commands.xautoclaim_options(stream, group, name, millis(*lease), &self.cursor, options).await?;
        self.cursor = claimed.next_stream_id;
        for entry in claimed.claimed {
            let count: StreamPendingCountReply =
                self.commands.xpending_count(stream, group, &entry.id, &entry.id, 1).await?;
            self.ready.push_back(self.delivery(entry, count.ids.first().map(|pending| pending.times_delivered)));
        }
        if self.ready.is_empty() {
            self.read_after(">", StreamReadOptions::default().block(millis(READ))).await?;
        }
        Ok(())
    }

    /// Reads this consumer's entries after an id, or new ones. Returns whether there were any.
    async fn read_after(&mut self, after: &str, options: StreamReadOptions) -> RedisResult<bool> {
        let Consumer { stream, group, name, .. } = &*self.consumer;
        let options = options.group(group, name).count(BATCH);
        let read: Option<StreamReadReply> = self.reads.xread_options(&[stream], &[after], &options).await?;
        let entries = read.into_iter().flat_map(|read| read.keys).flat_map(|key| key.ids);
        let deliveries = (after == ">").then_some(1);
        self.ready = entries.map(|entry| self.delivery(entry, deliveries)).collect();
        let Some(last) = self.ready.back() else { return Ok(false) };
        self.last.clone_from(&last.entry);
        Ok(true)
    }

    fn delivery(&self, entry: StreamId, deliveries: Option<usize>) -> Delivery {
        let bytes = |value| Vec::<u8>::from_redis_value(value).unwrap_or_default();
        let fields = entry.map.into_iter().map(|(name, value)| (name, bytes(value))).collect();
        let (consumer, connection) = (Arc::clone(&self.consumer), self.commands.clone());
        Delivery { consumer, connection, entry: entry.id, fields, deliveries }
    }
}

/// A delivery, to be settled once. One that is dropped comes again when its lease has ended.
pub struct Delivery {
    consumer: Arc<Consumer>,
    connection: ConnectionManager,
    entry: String,
    fields: Vec<(String, Vec<u8>)>,
    deliveries: Option<usize>,
}

impl Delivery {
    fn field(&self, name: &str) -> Option<&[u8]> {
        self.fields.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_slice())
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.field(name).and_then(|value| std::str::from_utf8(value).ok())
    }

    /// Sets how long it has been idle. Fails if another consumer has claimed it.
    async fn set_idle(&self, idle: Duration) -> Result<(), BoxError> {
        let Consumer { stream, group, name, .. } = &*self.consumer;
        let mut set = SET_IDLE.key(stream);
        set.arg(group).arg(name).arg(&self.entry).arg(millis(idle));
        let is_ours: bool = set.invoke_async(&mut self.connection.clone()).await?;
        if is_ours { Ok(()) } else { Err("another consumer has claimed the entry".into()) }
    }
}

impl consumer::Delivery for Delivery {
    /// The order of a partition holds with one consumer. An entry with the field `dead` has been a dead letter, whose fields an
    /// operator has added to the stream again.
    fn message(&self) -> Message<'_> {
        Message::new(self.text("id"), self.field("payload").unwrap_or_default())
            .with_kind(self.text("kind"))
            .with_partition(self.text("partition"))
            .sent_again(self.field("dead").is_some())
    }

    fn deliveries(&self) -> Option<u32> {
        self.deliveries.and_then(|count| count.try_into().ok())
    }

    fn visibility(&self) -> Option<Duration> {
        Some(self.consumer.lease)
    }

    async fn extend(&self) -> Result<(), BoxError> {
        self.set_idle(Duration::ZERO).await
    }

    async fn ack(mut self) -> Result<(), BoxError> {
        let Consumer { stream, group, .. } = &*self.consumer;
        let _: u32 = self.connection.xack(stream, group, &[&self.entry]).await?;
        Ok(())
    }

    /// It comes again when it has been idle for the lease. A longer time is for the record to keep.
    async fn retry(self, after: Duration) -> Result<(), BoxError> {
        self.set_idle(self.consumer.lease.saturating_sub(after)).await
    }

    /// Moves it to the stream of dead letters, with the reason in the field `dead`.
    async fn reject(mut self, why: &Dead) -> Result<(), BoxError> {
        let Consumer { stream, group, .. } = &*self.consumer;
        let mut reject = REJECT.key(stream);
        reject.key(self.consumer.dead_stream()).arg(group).arg(&self.entry).arg("dead").arg(why.as_str());
        for (name, value) in self.fields.iter().filter(|(name, _)| name != "dead") {
            reject.arg(name).arg(value);
        }
        let () = reject.invoke_async(&mut self.connection).await?;
        Ok(())
    }
}

fn millis(duration: Duration) -> usize {
    usize::try_from(duration.as_millis()).unwrap_or(usize::MAX)
}
