//! Settings of a [`RedisStore`].

use std::{sync::Arc, time::Duration};

use super::{
    RedisShared, RedisStore,
    address::{self, Address},
    check::check_server,
    compare::Granted,
    connection::{Connector, Target, Timeouts},
    listener::Listener,
};
use crate::{
    error::SetupError,
    store::{Subscribers, tls::TlsFiles},
};

/// The longest prefix, in bytes.
const MAX_PREFIX_LEN: usize = 64;

/// Settings of a [`RedisStore`]; see [`RedisStore::builder`].
#[derive(Clone, Debug)]
#[must_use]
pub struct RedisStoreBuilder {
    prefix: String,
    timeouts: Timeouts,
    allow_eviction: bool,
    tls: TlsFiles,
}

impl RedisStoreBuilder {
    pub(super) fn new() -> Self {
        Self {
            prefix: "idempotent:".to_owned(),
            timeouts: Timeouts { connection: Duration::from_secs(1), response: Duration::from_secs(2) },
            allow_eviction: false,
            tls: TlsFiles::default(),
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
    /// Also accepts a server that does not tell its policy, since `INFO` is forbidden to the login or renamed.
    pub const fn allow_eviction(mut self, allow: bool) -> Self {
        self.allow_eviction = allow;
        self
    }

    /// Trusts these authorities, one or more certificates as PEM, instead of those of the system, for `rediss://`. The
    /// URL's `?sslrootcert=` names a file of them.
    #[cfg(feature = "redis-tls")]
    pub fn root_certificate(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.tls.root = Some(pem.into());
        self
    }

    /// Shows the server this certificate, with its chain, and proves it with this key, both as PEM, for `rediss://`. The
    /// URL's `?sslcert=` and `?sslkey=` name a file of each.
    #[cfg(feature = "redis-tls")]
    pub fn client_certificate(mut self, pem: impl Into<Vec<u8>>, key_pem: impl Into<Vec<u8>>) -> Self {
        self.tls.client = Some((pem.into(), key_pem.into()));
        self
    }

    /// Connects, and checks that the server is fit to keep records. [`RedisStore`] lists the URLs.
    ///
    /// # Errors
    ///
    /// [`SetupError::Setting`] or [`SetupError::Url`] where a setting or the URL cannot be used, [`SetupError::Store`]
    /// where the server cannot be reached, refuses the login or its scripts, is older than Redis 7.0, may evict records,
    /// or is a replica, a sentinel, or a node of a cluster that the URL does not name as one.
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
        let address = address::parse(url, self.tls)?;
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
            Address::Cluster(cluster) => {
                let nodes = cluster.nodes.clone();
                (connector(Target::Cluster(cluster)), connector(Target::Nodes(nodes)))
            }
        };
        check_server(&commands, self.allow_eviction).await?;
        let prefix = self.prefix.into();
        Ok(RedisStore {
            shared: Arc::new(RedisShared {
                prefix,
                commands,
                wakes,
                granted: Granted::default(),
                subscribers,
                listener,
                is_cluster,
            }),
        })
    }
}
