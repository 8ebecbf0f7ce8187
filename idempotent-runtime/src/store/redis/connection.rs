//! Keeps one multiplexed link at a time, and replaces it when it fails.

use std::{
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ConnectionInfo, ErrorKind, ProtocolVersion, PushInfo, PushKind,
    RedisError, RedisResult, ServerErrorKind, Value,
    aio::{AsyncPushSender, ConnectionLike, MultiplexedConnection, SendError},
    cluster::ClusterClientBuilder,
    cluster_async::ClusterConnection,
    cluster_routing::{MultipleNodeRoutingInfo, RoutingInfo},
    io::tcp::TcpSettings,
};
use tokio::time::Instant;

use super::{
    address::{Cluster, Sentinel},
    compare::Comparing,
    fault::{is_answer, spoils_connection, store_error, unexpected_reply},
    listener::Listener,
    script::Script,
};
use crate::{
    lock::lock,
    store::{StoreError, StoreErrorKind, StoreResult},
};

/// After a failed attempt to connect, callers get its error for this long instead of trying themselves.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// The number of requests that may queue for the socket before their senders wait: enough for a burst of a thousand callers.
const PIPELINE_LEN: usize = 1024;

/// The number of bytes that are collected before they are written: a batch of requests in one system call.
const WRITE_BUFFER_LEN: usize = 64 * 1024;

/// The servers to connect to.
pub(super) enum Target {
    /// The first of these that answers.
    Nodes(Vec<ConnectionInfo>),
    /// The primary that the sentinels name, asked again at each connection.
    Sentinel(Box<Sentinel>),
    /// All nodes of the cluster that these belong to.
    Cluster(Cluster),
}

/// The longest waits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timeouts {
    pub(super) connection: Duration,
    pub(super) response: Duration,
}

/// Keeps one link to the target and replaces it when it fails.
///
/// It is not tied to the runtime that made the link: when that runtime ends, the link is dead, and the next caller's
/// runtime makes a new one.
pub(super) struct Connector {
    target: Target,
    timeouts: Timeouts,
    listener: Weak<Listener>,
    current: Mutex<Option<Arc<Link>>>,
    /// The comparing commands of the last link's servers.
    comparing: Comparing,
    /// The last failure to connect. Its lock is held while connecting: one caller connects, and the others wait for it.
    last_failure: tokio::sync::Mutex<Option<(Instant, StoreError)>>,
}

/// A connection that was working when it was made.
pub(super) struct Link {
    connection: Connection,
    /// Dies with the task that drives the connection.
    alive: Weak<()>,
}

#[derive(Clone)]
enum Connection {
    Node(MultiplexedConnection),
    Cluster(ClusterConnection),
}

/// The connection's receiver of pushes. It is dropped with the connection, and then tells the listener.
struct Pushes {
    listener: Weak<Listener>,
    _alive: Arc<()>,
}

impl AsyncPushSender for Pushes {
    fn send(&self, push: PushInfo) -> Result<(), SendError> {
        if let (PushKind::Message, Some(listener), Some(Value::BulkString(channel))) =
            (push.kind, self.listener.upgrade(), push.data.first())
        {
            listener.published(channel);
        }
        Ok(())
    }
}

impl Drop for Pushes {
    fn drop(&mut self) {
        if let Some(listener) = self.listener.upgrade() {
            listener.link_closed();
        }
    }
}

impl Connector {
    pub(super) fn new(target: Target, timeouts: Timeouts, listener: Weak<Listener>) -> Self {
        let (current, last_failure) = (Mutex::new(None), tokio::sync::Mutex::new(None));
        Self { target, timeouts, listener, current, comparing: Comparing::default(), last_failure }
    }

    /// The link in use, if it has not failed.
    pub(super) fn live(&self) -> Option<Arc<Link>> {
        let current = lock(&self.current);
        current.as_ref().filter(|link| link.alive.strong_count() > 0).cloned()
    }

    /// The link in use, or a new one.
    pub(super) async fn link(&self) -> StoreResult<Arc<Link>> {
        if let Some(link) = self.live() {
            return Ok(link);
        }
        let mut last_failure = self.last_failure.lock().await;
        if let Some(link) = self.live() {
            return Ok(link);
        }
        if let Some((when, error)) = &*last_failure
            && when.elapsed() < RETRY_PAUSE
        {
            return Err(error.clone());
        }
        #[cfg(feature = "redis-tls")]
        choose_cryptography();
        match Box::pin(self.connect()).await {
            Ok(link) => {
                self.comparing.learn(self.hello(&link).await);
                let link = Arc::new(link);
                *lock(&self.current) = Some(Arc::clone(&link));
                *last_failure = None;
                Ok(link)
            }
            Err(error) => {
                *last_failure = Some((Instant::now(), error.clone()));
                Err(error)
            }
        }
    }

    /// True if the target is a cluster.
    pub(super) const fn is_cluster(&self) -> bool {
        matches!(self.target, Target::Cluster(_))
    }

    /// The store error that means the same, here.
    pub(super) fn fault(&self, error: RedisError) -> StoreError {
        let of_a_slot = matches!(error.kind(), ErrorKind::Server(ServerErrorKind::Moved | ServerErrorKind::Ask));
        if of_a_slot && !self.is_cluster() {
            const WHAT: &str =
                "the Redis server is a node of a cluster, and another one has the key: connect with redis+cluster://";
            return StoreError::new(StoreErrorKind::Refused, WHAT);
        }
        store_error(error)
    }

    /// Sends one command and waits for its answer.
    pub(super) async fn call(&self, command: &Cmd) -> StoreResult<Value> {
        self.try_call(command).await?.map_err(|error| self.fault(error))
    }

    /// Asks as the method above does, and gives the client's own error for the answer.
    pub(super) async fn try_call(&self, command: &Cmd) -> StoreResult<RedisResult<Value>> {
        let link = self.link().await?;
        Ok(self.send(&link, command).await)
    }

    /// The comparing commands that the servers have.
    pub(super) const fn comparing(&self) -> &Comparing {
        &self.comparing
    }

    /// Asks with a comparing command, if the server `has` it; answers `false` where nothing was changed.
    pub(super) async fn compared(&self, has: &AtomicBool, command: &Cmd) -> StoreResult<bool> {
        if !has.load(Relaxed) {
            return Ok(false);
        }
        match self.try_call(command).await? {
            Ok(Value::Okay | Value::Int(1)) => Ok(true),
            Ok(Value::Nil | Value::Int(0)) => Ok(false),
            Ok(_) => Err(unexpected_reply()),
            Err(error) if is_answer(&error) => {
                if matches!(error.code(), Some("ERR" | "NOPERM")) {
                    has.store(false, Relaxed);
                }
                Ok(false)
            }
            Err(error) => Err(self.fault(error)),
        }
    }

    /// Asks the servers of a new link for their names and releases. Another one may stand there than before.
    async fn hello(&self, link: &Link) -> Vec<Value> {
        let mut hello = Cmd::new();
        hello.arg("HELLO");
        match link.connection.clone() {
            Connection::Node(mut node) => node.send_packed_command(&hello).await.into_iter().collect(),
            Connection::Cluster(mut cluster) => {
                let primaries = RoutingInfo::MultiNode((MultipleNodeRoutingInfo::AllMasters, None));
                match cluster.route_command(hello, primaries).await {
                    Ok(Value::Map(nodes)) => nodes.into_iter().map(|(_, answer)| answer).collect(),
                    _ => Vec::new(),
                }
            }
        }
    }

    /// Runs a script; `arguments` adds its key and arguments to a command.
    pub(super) async fn run(&self, script: &Script, arguments: impl Fn(&mut Cmd)) -> StoreResult<Value> {
        let link = self.link().await?;
        let mut command = script.by_name();
        arguments(&mut command);
        let mut answer = self.send(&link, &command).await;
        if matches!(&answer, Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript)) {
            let mut command = script.in_full();
            arguments(&mut command);
            answer = self.send(&link, &command).await;
        }
        answer.map_err(|error| self.fault(error))
    }

    /// Sends one command to the node of a cluster that `routing` chooses; outside a cluster, to the only node.
    pub(super) async fn route(&self, command: Cmd, routing: RoutingInfo) -> StoreResult<Value> {
        let link = self.link().await?;
        let answer = match link.connection.clone() {
            Connection::Cluster(mut cluster) => Box::pin(cluster.route_command(command, routing)).await,
            Connection::Node(mut node) => node.send_packed_command(&command).await,
        };
        answer.and_then(Value::extract_error).map_err(store_error)
    }

    /// Starts listening to channels on this link, and on no other.
    pub(super) async fn subscribe(&self, link: &Arc<Link>, channels: &[String]) -> StoreResult<()> {
        self.on_node(link, async |node| node.subscribe(channels).await).await
    }

    /// Stops listening to channels.
    pub(super) async fn unsubscribe(&self, link: &Arc<Link>, channels: &[String]) -> StoreResult<()> {
        self.on_node(link, async |node| node.unsubscribe(channels).await).await
    }

    async fn on_node(
        &self,
        link: &Arc<Link>,
        then: impl AsyncFnOnce(&mut MultiplexedConnection) -> RedisResult<()>,
    ) -> StoreResult<()> {
        // Cluster links carry commands only: see `RedisShared::wakes`.
        let Connection::Node(mut node) = link.connection.clone() else { return Ok(()) };
        let answer = then(&mut node).await;
        self.discard_if_spoilt(link, &answer);
        answer.map_err(store_error)
    }

    async fn send(&self, link: &Arc<Link>, command: &Cmd) -> RedisResult<Value> {
        let answer = match link.connection.clone() {
            Connection::Node(mut node) => node.send_packed_command(command).await,
            Connection::Cluster(mut cluster) => cluster.req_packed_command(command).await,
        };
        let answer = answer.and_then(Value::extract_error);
        self.discard_if_spoilt(link, &answer);
        answer
    }

    fn discard_if_spoilt<T>(&self, link: &Arc<Link>, answer: &RedisResult<T>) {
        let Err(error) = answer else { return };
        // A cluster's connection repairs itself, node by node.
        if matches!(link.connection, Connection::Cluster(_)) || !spoils_connection(error) {
            return;
        }
        let mut current = lock(&self.current);
        if current.as_ref().is_some_and(|current| Arc::ptr_eq(current, link)) {
            *current = None;
            drop(current);
            if let Some(listener) = self.listener.upgrade() {
                listener.link_closed();
            }
        }
    }

    async fn connect(&self) -> StoreResult<Link> {
        match &self.target {
            Target::Nodes(nodes) => self.connect_first(nodes).await,
            Target::Sentinel(sentinel) => {
                let primary = self.resolve(sentinel).await?;
                self.connect_node(primary).await.map_err(store_error)
            }
            Target::Cluster(cluster) => self.connect_cluster(cluster).await.map_err(store_error),
        }
    }

    async fn connect_first(&self, nodes: &[ConnectionInfo]) -> StoreResult<Link> {
        let mut failure = StoreError::new(StoreErrorKind::Refused, "no Redis server is configured");
        for node in nodes {
            match self.connect_node(node.clone()).await {
                Ok(link) => return Ok(link),
                Err(error) => failure = store_error(error),
            }
        }
        Err(failure)
    }

    async fn connect_node(&self, node: ConnectionInfo) -> RedisResult<Link> {
        let (pushes, alive) = self.pushes();
        let config = self.node_config().set_push_sender(pushes);
        let connection = Client::open(node)?.get_multiplexed_async_connection_with_config(&config).await?;
        Ok(Link { connection: Connection::Node(connection), alive })
    }

    async fn connect_cluster(&self, cluster: &Cluster) -> RedisResult<Link> {
        let (pushes, alive) = self.pushes();
        let builder = ClusterClientBuilder::new(cluster.nodes.clone());
        // Those of the addresses are for the first nodes only.
        #[cfg(feature = "redis-tls")]
        let builder = match &cluster.certificates {
            Some(certificates) => builder.certs(certificates.clone()),
            None => builder,
        };
        let client = builder
            .use_protocol(ProtocolVersion::RESP3)
            .connection_timeout(self.timeouts.connection)
            .response_timeout(self.timeouts.response)
            .tcp_settings(TcpSettings::default().set_nodelay(true))
            .write_backpressure_boundary(WRITE_BUFFER_LEN)
            .push_sender(pushes)
            .build()?;
        let connection = client.get_async_connection().await?;
        Ok(Link { connection: Connection::Cluster(connection), alive })
    }

    /// Asks the sentinels, one after the other, where the primary is now.
    async fn resolve(&self, sentinel: &Sentinel) -> StoreResult<ConnectionInfo> {
        let mut failure = StoreError::new(StoreErrorKind::Unavailable, "no sentinel knows the primary");
        for node in &sentinel.sentinels {
            match self.ask_sentinel(node, &sentinel.primary).await {
                Ok(Some((host, port))) => return Ok(at(&sentinel.template, host, port)),
                Ok(None) => {}
                Err(error) => failure = store_error(error),
            }
        }
        Err(failure)
    }

    async fn ask_sentinel(&self, node: &ConnectionInfo, primary: &str) -> RedisResult<Option<(String, u16)>> {
        let client = Client::open(node.clone())?;
        let mut connection = client.get_multiplexed_async_connection_with_config(&self.node_config()).await?;
        redis::cmd("SENTINEL").arg("GET-MASTER-ADDR-BY-NAME").arg(primary).query_async(&mut connection).await
    }

    fn node_config(&self) -> AsyncConnectionConfig {
        AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.timeouts.connection))
            .set_response_timeout(Some(self.timeouts.response))
            .set_pipeline_buffer_size(PIPELINE_LEN)
            .set_write_backpressure_boundary(WRITE_BUFFER_LEN)
    }

    fn pushes(&self) -> (Pushes, Weak<()>) {
        let alive = Arc::new(());
        let observer = Arc::downgrade(&alive);
        (Pushes { listener: self.listener.clone(), _alive: alive }, observer)
    }
}

/// Chooses a cryptography for the process, unless the application has chosen one: rustls panics without.
#[cfg(feature = "redis-tls")]
fn choose_cryptography() {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // Fails if another thread was faster, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
    }
}

/// The template with another host and port.
fn at(template: &ConnectionInfo, host: String, port: u16) -> ConnectionInfo {
    let address = match template.addr() {
        ConnectionAddr::TcpTls { insecure, tls_params, .. } => {
            ConnectionAddr::TcpTls { host, port, insecure: *insecure, tls_params: tls_params.clone() }
        }
        _ => ConnectionAddr::Tcp(host, port),
    };
    template.clone().set_addr(address)
}

#[cfg(all(test, feature = "redis-tls"))]
mod tests {
    use super::super::RedisStore;
    use crate::{error::SetupError, store::StoreErrorKind};

    #[tokio::test]
    async fn tls_to_a_server_without_it_is_an_error() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(async move { while listener.accept().await.is_ok() {} });
        match RedisStore::connect(&format!("rediss://{address}")).await {
            Err(SetupError::Store(error)) => assert_eq!(error.kind(), StoreErrorKind::Unavailable),
            other => panic!("not the store's error: {other:?}"),
        }
    }
}
