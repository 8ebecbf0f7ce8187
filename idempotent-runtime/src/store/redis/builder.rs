//! Settings of a [`RedisStore`].

use std::{sync::Arc, time::Duration};

use super::{
    RedisShared, RedisStore,
    address::{self, Address},
    check::check_server,
    connection::{Connector, Target, Timeouts},
    listener::Listener,
};
use crate::{error::SetupError, store::Subscribers};

/// The longest prefix, in bytes.
const MAX_PREFIX_LEN: usize = 64;

/// Settings of a [`RedisStore`]; see [`RedisStore::builder`].
#[derive(Clone, Debug)]
#[must_use]
pub struct RedisStoreBuilder {
    prefix: String,
    timeouts: Timeouts,
    allow_eviction: bool,
}

impl RedisStoreBuilder {
    pub(super) fn new() -> Self {
        Self {
            prefix: "idempotent:".to_owned(),
            timeouts: Timeouts { connection: Duration::from_secs(1), response: Duration::from_secs(2) },
            allow_eviction: false,
        }
    }

    /// Sets the prefix of all keys and channels, `idempotent:` by default. Two prefixes of one server are two stores, as
    /// long as neither begins with the other.
    ///
    /// A prefix has up to 64 printable ASCII characters, and no braces, which would move all records of a cluster to one
    /// node.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Sets how long to wait for a connection, login included: 1 s by default.
    pub const fn connection_timeout(mut self, timeout: Duration) -> Self {
        self.timeouts.connection = timeout;
        self
    }

    /// Sets how long to wait for an answer: 2 s by default. A connection that let one time out is replaced.
    ///
    /// Keep it well below the lease, so that a claim whose answer is lost can be asked again in time.
    pub const fn response_timeout(mut self, timeout: Duration) -> Self {
        self.timeouts.response = timeout;
        self
    }

    /// Accepts a server whose `maxmemory-policy` may drop records, and with them every promise; `false` by default.
    ///
    /// It also accepts a login that may not run `INFO`, and so cannot see the policy.
    pub const fn allow_eviction(mut self, allow: bool) -> Self {
        self.allow_eviction = allow;
        self
    }

    /// Connects, and checks that the server is fit to keep records. The [module](crate::store::redis) lists the URLs.
    ///
    /// # Errors
    ///
    /// [`SetupError::Setting`] or [`SetupError::Url`] where a setting or the URL cannot be used, [`SetupError::Store`]
    /// where the server cannot be reached, refuses the login, is older than Redis 7.0 or may evict records.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: nothing is left behind.
    pub async fn connect(self, url: &str) -> Result<RedisStore, SetupError> {
        if self.prefix.len() > MAX_PREFIX_LEN {
            return Err(SetupError::Setting("the Redis prefix is longer than 64 bytes"));
        }
        if !self.prefix.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'{' | b'}')) {
            return Err(SetupError::Setting("the Redis prefix has other than printable ASCII characters, or braces"));
        }
        let address = address::parse(url)?;
        let subscribers = Subscribers::new();
        let listener = Arc::new(Listener::new(subscribers.clone(), self.prefix.as_str().into()));
        let connector = |target| Arc::new(Connector::new(target, self.timeouts, Arc::downgrade(&listener)));
        let is_cluster = matches!(address, Address::Cluster(_));
        let (commands, wakes) = match address {
            Address::Standalone(node) => {
                let commands = connector(Target::Nodes(vec![node]));
                (Arc::clone(&commands), commands)
            }
            Address::Sentinel(sentinel) => {
                let commands = connector(Target::Sentinel(Box::new(sentinel)));
                (Arc::clone(&commands), commands)
            }
            // Every node of a cluster passes on every message, so one connection to any of them is enough.
            Address::Cluster(nodes) => (connector(Target::Cluster(nodes.clone())), connector(Target::Nodes(nodes))),
        };
        check_server(&commands, self.allow_eviction).await?;
        let prefix = self.prefix.into();
        Ok(RedisStore { shared: Arc::new(RedisShared { prefix, commands, wakes, subscribers, listener, is_cluster }) })
    }
}
