//! Lists records: scans one primary after the other.

use std::sync::Arc;

use redis::{
    Cmd, FromRedisValue,
    cluster_routing::{RoutingInfo, SingleNodeRoutingInfo},
};
use tokio::task::JoinSet;

use super::{RedisShared, RedisStore, fault::unexpected_reply};
use crate::store::{Cursor, Page, RecordKey, StoreError, StoreErrorKind, StoreResult};

/// The most keys that one step of a listing looks at.
const MAX_PAGE_LEN: usize = 1000;

/// The position of a scan: `cursor` on a single server, `cursor@host:port` on a node of a cluster.
struct Position {
    node: Option<(String, u16)>,
    cursor: u64,
}

impl Position {
    fn read(cursor: &Cursor) -> Option<Self> {
        let (cursor, node) = match cursor.as_str().split_once('@') {
            Some((cursor, node)) => {
                let (host, port) = node.rsplit_once(':')?;
                (cursor, Some((host.to_owned(), port.parse().ok()?)))
            }
            None => (cursor.as_str(), None),
        };
        Some(Self { node, cursor: cursor.parse().ok()? })
    }

    fn write(&self) -> Cursor {
        Cursor::new(match &self.node {
            Some((host, port)) => format!("{}@{host}:{port}", self.cursor),
            None => self.cursor.to_string(),
        })
    }
}

impl RedisStore {
    /// Takes one step: some keys of one node, and their records.
    pub(super) async fn list_page(
        &self,
        operation: Option<&str>,
        after: Option<&Cursor>,
        limit: usize,
    ) -> StoreResult<Page> {
        let position = match after {
            Some(cursor) => Position::read(cursor)
                .ok_or(StoreError::new(StoreErrorKind::Refused, "the cursor was not made by this store"))?,
            None => Position { node: self.next_node(None).await?, cursor: 0 },
        };
        let (cursor, keys) = self.scan(&position, operation, limit.clamp(1, MAX_PAGE_LEN)).await?;
        let next = if cursor != 0 {
            Some(Position { node: position.node, cursor })
        } else if let Some(done) = &position.node {
            self.next_node(Some(done)).await?.map(|node| Position { node: Some(node), cursor: 0 })
        } else {
            None
        };
        Ok(Page::new(self.read_all(keys).await?, next.map(|position| position.write())))
    }

    async fn scan(
        &self,
        position: &Position,
        operation: Option<&str>,
        count: usize,
    ) -> StoreResult<(u64, Vec<RecordKey>)> {
        let prefix = &*self.shared.prefix;
        let mut pattern = escape(prefix);
        if let Some(operation) = operation {
            pattern.push_str(&escape(operation));
            pattern.push(RecordKey::SEPARATOR);
        }
        pattern.push('*');
        let mut scan = Cmd::new();
        scan.arg("SCAN").arg(position.cursor).arg("MATCH").arg(pattern).arg("COUNT").arg(count);
        let commands = &self.shared.commands;
        let answer = match position.node.clone() {
            Some((host, port)) => {
                let node = SingleNodeRoutingInfo::ByAddress { host, port };
                commands.route(scan, RoutingInfo::SingleNode(node)).await?
            }
            None => commands.call(&scan).await?,
        };
        let (cursor, keys) = <(u64, Vec<Vec<u8>>)>::from_redis_value(answer).map_err(|_| unexpected_reply())?;
        let keys = keys.iter().filter_map(|key| std::str::from_utf8(key).ok()?.strip_prefix(prefix));
        Ok((cursor, keys.filter_map(|key| key.parse().ok()).collect()))
    }

    /// Reads the records of these keys, all at once. It leaves out records that have gone meanwhile, and values that are no
    /// records.
    async fn read_all(&self, keys: Vec<RecordKey>) -> StoreResult<Vec<crate::store::Record>> {
        let mut reads = JoinSet::new();
        for key in keys {
            let shared = Arc::clone(&self.shared);
            reads.spawn(async move { shared.inspect(&key).await });
        }
        let mut records = Vec::with_capacity(reads.len());
        while let Some(read) = reads.join_next().await {
            match read {
                Ok(Ok(record)) => records.extend(record),
                Ok(Err(error)) if error.kind() == StoreErrorKind::Corrupt => {}
                Ok(Err(error)) => return Err(error),
                Err(_) => return Err(StoreError::new(StoreErrorKind::Unavailable, "the runtime is shutting down")),
            }
        }
        Ok(records)
    }

    /// The primary that follows another one in the order of their addresses; the first for `None`. A single server has no
    /// address here.
    async fn next_node(&self, after: Option<&(String, u16)>) -> StoreResult<Option<(String, u16)>> {
        if !self.shared.is_cluster {
            return Ok(None);
        }
        Ok(self.shared.primaries().await?.into_iter().filter(|node| after.is_none_or(|after| node > after)).min())
    }
}

impl RedisShared {
    async fn primaries(&self) -> StoreResult<Vec<(String, u16)>> {
        let mut command = Cmd::new();
        command.arg("CLUSTER").arg("SLOTS");
        let random = RoutingInfo::SingleNode(SingleNodeRoutingInfo::Random);
        let answer = self.commands.route(command, random).await?;
        let ranges = <Vec<Vec<redis::Value>>>::from_redis_value(answer).map_err(|_| unexpected_reply())?;
        // Each range: first slot, last slot, the primary, its replicas. A node: host, port, more.
        let primary = |range: Vec<redis::Value>| {
            let node = <Vec<redis::Value>>::from_redis_value(range.into_iter().nth(2)?).ok()?;
            let mut parts = node.into_iter();
            let host = String::from_redis_value(parts.next()?).ok()?;
            let port = u16::from_redis_value(parts.next()?).ok()?;
            Some((host, port))
        };
        ranges.into_iter().map(primary).collect::<Option<_>>().ok_or_else(unexpected_reply)
    }
}

/// Turns a text into the pattern that matches it alone.
fn escape(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len());
    for character in text.chars() {
        if matches!(character, '*' | '?' | '[' | ']' | '^' | '-' | '\\') {
            pattern.push('\\');
        }
        pattern.push(character);
    }
    pattern
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_read_as_written() {
        for text in ["17", "0@127.0.0.1:7000", "9@::1:7000"] {
            let position = Position::read(&Cursor::new(text)).expect("a position");
            assert_eq!(position.write().as_str(), text);
        }
        for text in ["", "x", "1@host", "1@host:x", "-1"] {
            assert!(Position::read(&Cursor::new(text)).is_none(), "{text}");
        }
    }

    #[test]
    fn patterns_match_the_text_alone() {
        assert_eq!(escape("a*b?[c]\\"), "a\\*b\\?\\[c\\]\\\\");
    }
}
