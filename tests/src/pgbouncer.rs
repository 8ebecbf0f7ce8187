//! A real `PgBouncer` in front of a PostgreSQL server: on a free port, in a temporary folder, stopped when it is dropped.

#![expect(clippy::expect_used, clippy::missing_panics_doc, reason = "a harness that cannot do its work fails the test")]

use std::{fs, path::Path, process::Command, time::Duration};

use sqlx::{Connection as _, PgConnection};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use crate::{ports::free_port, postgres_server::User, process::Process};

const START_DEADLINE: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(20);

/// One pooler.
#[derive(Debug)]
pub struct PgBouncer {
    port: u16,
    /// Both before the folder that its log is in.
    _process: Process,
    _dir: TempDir,
}

impl PgBouncer {
    /// A pooler for the server at `host:port`, with these lines in its configuration besides the port and the like.
    ///
    /// # Panics
    ///
    /// Where the binary is missing or the pooler does not start.
    pub async fn start(server: &str, settings: &str) -> Self {
        let (host, port) = server.rsplit_once(':').expect("a host and a port");
        let dir = tempfile::tempdir().expect("a temporary folder");
        let user = User::other_than_root(dir.path());
        let pooler = free_port();
        let config = dir.path().join("pgbouncer.ini");
        let users = dir.path().join("users.txt");
        fs::write(&users, "\"postgres\" \"\"\n").expect("a file");
        let text = format!(
            "[databases]\n* = host={host} port={port}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {pooler}\n\
             auth_type = trust\nauth_file = {}\nunix_socket_dir =\n{settings}\n",
            users.display()
        );
        fs::write(&config, text).expect("a file");
        if let Some(user) = user {
            user.own(dir.path());
        }
        let mut command = Command::new(binary());
        if let Some(user) = user {
            user.run(&mut command);
        }
        let process = Process::start(command.arg(&config), &dir.path().join("pgbouncer.log"));
        let pooler = Self { port: pooler, _process: process, _dir: dir };
        pooler.wait_until_ready().await;
        pooler
    }

    /// Its `host:port`.
    #[must_use]
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    async fn wait_until_ready(&self) {
        let deadline = Instant::now() + START_DEADLINE;
        while std::net::TcpStream::connect(self.address()).is_err() {
            assert!(Instant::now() < deadline, "the pooler did not start");
            sleep(POLL).await;
        }
    }

    /// A connection through it, of a client that asks for nothing special.
    pub async fn client(&self, database: &str) -> PgConnection {
        let options = format!("postgres://postgres@{}/{database}", self.address());
        let options: sqlx::postgres::PgConnectOptions = options.parse().expect("a URL");
        PgConnection::connect_with(&options.extra_float_digits(None)).await.expect("a connection")
    }
}

/// Debian has it where only root looks.
fn binary() -> &'static str {
    ["/usr/sbin/pgbouncer"].into_iter().find(|path| Path::new(path).exists()).unwrap_or("pgbouncer")
}
