//! Real RabbitMQ servers.
//!
//! Each server has free ports, a temporary folder and a port mapper (`epmd`) of its own and is killed when it is dropped; in a
//! panic its log is printed first. `RABBITMQ_SERVER` names another script `rabbitmq-server` than that of the system's
//! package; the script of that name on the path is no such script, since it switches the user. A missing server fails the test.

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::missing_panics_doc,
    reason = "a harness that cannot do its work fails the test"
)]

use std::{
    ffi::OsStr,
    fs,
    net::{Ipv4Addr, TcpStream},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use lapin::{Connection, ConnectionProperties};
use tempfile::TempDir;
use tokio::time::{Instant, sleep, timeout};

use crate::{ports::free_port, process::Process, wait::wait_for};

/// It loads a thousand modules, which takes four seconds of one processor.
const START_DEADLINE: Duration = Duration::from_secs(25);
/// As long as a busy machine may need.
const PROBE_DEADLINE: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(20);
/// The system's packages and Homebrew's.
const SCRIPTS: [&str; 3] = [
    "/usr/lib/rabbitmq/bin/rabbitmq-server",
    "/opt/homebrew/opt/rabbitmq/sbin/rabbitmq-server",
    "/usr/local/opt/rabbitmq/sbin/rabbitmq-server",
];

/// One server, without plugins.
#[derive(Debug)]
pub struct RabbitmqServer {
    processes: Option<Processes>,
    ports: Ports,
    dir: TempDir,
}

#[derive(Debug)]
struct Processes {
    server: Process,
    port_mapper: Process,
}

#[derive(Clone, Copy, Debug)]
struct Ports {
    clients: u16,
    nodes: u16,
    port_mapper: u16,
}

impl Ports {
    fn free() -> Self {
        Self { clients: free_port(), nodes: free_port(), port_mapper: free_port() }
    }
}

impl RabbitmqServer {
    /// A server with the default settings.
    ///
    /// # Panics
    ///
    /// Where the server is missing or does not start. So do all other functions here.
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// A server that closes the channel of a consumer that has not acknowledged a delivery for this long, and delivers it
    /// again. The default is half an hour.
    pub async fn start_with_consumer_timeout(timeout: Duration) -> Self {
        let timeout = format!("consumer_timeout = {}", timeout.as_millis());
        Self::start_with(&[&timeout]).await
    }

    /// A server with these lines in its `rabbitmq.conf`.
    pub async fn start_with(settings: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        link_installation(dir.path());
        fs::create_dir(dir.path().join("home")).expect("a folder");
        // Channels look once a second, not once a minute, for deliveries that are not acknowledged in time.
        let advanced = "[{rabbit, [{channel_tick_interval, 1000}]}].";
        let settings = settings.join("\n") + "\n";
        for (file, content) in [
            ("rabbitmq.conf", settings.as_str()),
            ("advanced.config", advanced),
            ("enabled_plugins", "[]."),
            ("env.conf", ""),
        ] {
            fs::write(dir.path().join(file), content).expect("a file");
        }
        let mut server = Self { processes: None, ports: Ports::free(), dir };
        for _ in 0..5 {
            if server.try_start().await {
                return server;
            }
            server.ports = Ports::free();
            let _ = fs::remove_dir_all(server.dir.path().join("data"));
        }
        panic!("the server did not start:\n{}", server.log());
    }

    /// Its `host:port`.
    #[must_use]
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.ports.clients)
    }

    /// Its URL.
    #[must_use]
    pub fn url(&self) -> String {
        self.url_at(self.address())
    }

    /// Its URL at another `host:port`, where a proxy is.
    #[must_use]
    pub fn url_at(&self, address: impl std::fmt::Display) -> String {
        format!("amqp://{address}/%2f")
    }

    /// A fresh connection, for the test's own commands.
    pub async fn client(&self) -> Connection {
        Connection::connect(&self.url(), ConnectionProperties::default()).await.expect("a connection")
    }

    /// Waits until a quorum queue that was just declared outlives a kill.
    ///
    /// RabbitMQ 3.10 writes the name of its log to disk some seconds after it has confirmed the first messages. A log without
    /// a name is dropped at the next start, and the queue then takes no messages.
    pub async fn wait_until_kept(&self, queue: &str) {
        let names = self.dir.path().join("data/rabbit@localhost/quorum/rabbit@localhost/names.dets");
        let name = format!("%2F_{queue}");
        // With its length before it: names may begin with this one.
        let len = u8::try_from(name.len()).expect("a name of less than 256 bytes");
        let name = [&[len], name.as_bytes()].concat();
        wait_for("the name of the log on disk", async || {
            let names = fs::read(&names).unwrap_or_default();
            names.windows(name.len()).any(|window| window == name)
        })
        .await;
    }

    /// Kills the process, as a crash does. Its children see the end of their input, and end.
    pub fn kill(&mut self) {
        if let Some(Processes { mut server, mut port_mapper }) = self.processes.take() {
            server.kill();
            port_mapper.kill();
        }
    }

    /// Starts the process again, on the same ports and folder.
    pub async fn restart(&mut self) {
        self.kill();
        for _ in 0..3 {
            if self.try_start().await {
                return;
            }
        }
        panic!("the server did not restart:\n{}", self.log());
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
        self.processes.as_ref().expect("a running server").server.signal(signal);
    }

    fn log_path(&self) -> PathBuf {
        self.dir.path().join("rabbitmq.log")
    }

    fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// Returns whether the server answers: not if a process has ended.
    async fn try_start(&mut self) -> bool {
        let dir = self.dir.path();
        // In the foreground, and before the server: the server would start one that outlives it.
        let mut port_mapper = command("epmd", dir, self.ports);
        let mut port_mapper = Process::start(port_mapper.args(["-address", "127.0.0.1"]), &dir.join("epmd.log"));
        while TcpStream::connect((Ipv4Addr::LOCALHOST, self.ports.port_mapper)).is_err() {
            if port_mapper.ended().is_some() {
                return false;
            }
            sleep(POLL).await;
        }
        let server = Process::start(&mut self.server_command(), &self.log_path());
        self.processes = Some(Processes { server, port_mapper });
        let deadline = Instant::now() + START_DEADLINE;
        while Instant::now() < deadline {
            if self.processes.as_mut().is_none_or(|processes| processes.server.ended().is_some()) {
                return false;
            }
            let probe = async {
                let connection = Connection::connect(&self.url(), ConnectionProperties::default()).await?;
                connection.close(200, "".into()).await
            };
            // A connection that the server takes while it still starts may never be answered.
            if let Ok(Ok(())) = timeout(PROBE_DEADLINE, probe).await {
                return true;
            }
            sleep(POLL).await;
        }
        // Now and then a start hangs.
        self.kill();
        false
    }

    fn server_command(&self) -> Command {
        let dir = self.dir.path();
        let mut command = command(dir.join("sbin/rabbitmq-server"), dir, self.ports);
        command
            .env("RABBITMQ_NODENAME", "rabbit@localhost")
            .env("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_NODE_PORT", self.ports.clients.to_string())
            .env("RABBITMQ_DIST_PORT", self.ports.nodes.to_string())
            .env("RABBITMQ_MNESIA_BASE", dir.join("data"))
            .env("RABBITMQ_LOG_BASE", dir.join("logs"))
            .env("RABBITMQ_LOGS", "-")
            // At the level of `info`, a start writes three hundred lines.
            .env("RABBITMQ_LOG", "warning,connection=info,channel=info")
            .env("RABBITMQ_CONFIG_FILE", dir.join("rabbitmq"))
            .env("RABBITMQ_ADVANCED_CONFIG_FILE", dir.join("advanced.config"))
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", dir.join("enabled_plugins"))
            .env("RABBITMQ_CONF_ENV_FILE", dir.join("env.conf"))
            // With this the script becomes the server instead of its parent, so that signals reach the server.
            .env("RABBITMQ_ALLOW_INPUT", "true")
            .env("RABBITMQ_SERVER_START_ARGS", "-noinput")
            // One scheduler: on a busy machine, several of them start a second later.
            .env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "+S 1:1 -kernel inet_dist_use_interface {127,0,0,1}");
        command
    }
}

/// A command with an environment and a folder of its own.
fn command(program: impl AsRef<OsStr>, dir: &Path, ports: Ports) -> Command {
    let mut command = Command::new(program);
    command
        .current_dir(dir)
        .env_clear()
        .envs(std::env::vars_os().filter(|(name, _)| name == "PATH"))
        .env("LANG", "C.UTF-8")
        .env("HOME", dir.join("home"))
        .env("ERL_CRASH_DUMP", dir.join("erl_crash.dump"))
        .env("ERL_EPMD_PORT", ports.port_mapper.to_string());
    command
}

/// Links the installed server, without its plugins, into the folder.
///
/// The server looks for each module in the folder of each plugin, also of those that are not enabled: that is half of the
/// time that its start takes.
fn link_installation(dir: &Path) {
    let script = std::env::var_os("RABBITMQ_SERVER").map(PathBuf::from);
    let mut scripts = script.into_iter().chain(SCRIPTS.map(PathBuf::from));
    let script = scripts.find_map(|script| script.canonicalize().ok()).expect("an installed rabbitmq-server");
    let scripts = script.parent().expect("a folder");
    symlink(scripts, dir.join("sbin")).expect("a link");
    let libraries = dir.join("plugins");
    fs::create_dir(&libraries).expect("a folder");
    for library in fs::read_dir(scripts.with_file_name("plugins")).expect("the plugins of the installed server") {
        let library = library.expect("a plugin");
        let name = library.file_name().to_string_lossy().into_owned();
        if !name.starts_with("rabbitmq_") || name.starts_with("rabbitmq_prelaunch") {
            symlink(library.path(), libraries.join(name)).expect("a link");
        }
    }
}
