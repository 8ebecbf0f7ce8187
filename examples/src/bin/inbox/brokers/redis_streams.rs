//! Redis Streams, as a producer has them.

use std::time::Duration;

use redis::{
    AsyncCommands as _, Client, RedisError, Script,
    aio::{ConnectionManager, ConnectionManagerConfig},
};

use super::Outbound;
use crate::Failure;

/// The group of the consumers.
pub(crate) const GROUP: &str = "shop";

/// The entries that the group has not settled: those that it has not read, and those that a consumer has.
const WAITING: &str = "for _, group in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
        if group[2] == ARGV[1] then return group[6] + (group[12] or 0) end
    end
    return 0";

/// As long as a busy server may need; redis's default is half a second.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

pub(crate) struct Redis(ConnectionManager);

impl Redis {
    /// Connects, and creates the streams with their groups.
    pub(crate) async fn connect(url: &str, streams: &[&str]) -> Result<Self, Failure> {
        let config = ConnectionManagerConfig::new().set_number_of_retries(1).set_response_timeout(Some(ANSWER_WITHIN));
        let mut connection = Client::open(url)?.get_connection_manager_with_config(config).await?;
        for stream in streams {
            let created = connection.xgroup_create_mkstream(stream, GROUP, "0").await;
            created.or_else(|error: RedisError| if error.code() == Some("BUSYGROUP") { Ok(()) } else { Err(error) })?;
        }
        Ok(Self(connection))
    }

    pub(crate) async fn send(&self, messages: &[Outbound<'_>]) -> Result<(), Failure> {
        let mut pipeline = redis::pipe();
        for Outbound { topic, id, payload } in messages {
            pipeline.xadd(topic, "*", &[("id", id.as_bytes()), ("payload", payload)]).ignore();
        }
        Ok(pipeline.query_async(&mut self.0.clone()).await?)
    }

    pub(crate) async fn waiting(&self, stream: &str) -> Result<u64, Failure> {
        Ok(Script::new(WAITING).key(stream).arg(GROUP).invoke_async(&mut self.0.clone()).await?)
    }
}
