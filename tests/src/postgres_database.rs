//! PostgreSQL databases on one server, which the tests of a process share.
//!
//! A server takes a second to start and to stop; a database takes the tenth of it, and is as good to a test that does
//! not kill its server.

#![expect(clippy::expect_used, clippy::missing_panics_doc, reason = "a harness that cannot do its work fails the test")]

use std::{
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU64, Ordering},
};

use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use tokio::sync::OnceCell;

use crate::postgres_server::PostgresServer;

static SERVER: OnceCell<(PostgresServer, Child)> = OnceCell::const_new();
static DATABASES: AtomicU64 = AtomicU64::new(0);

/// What is static is not dropped: when its input ends, as it does with our process, this stops the server.
const STOP: &str = r#"
    read -r _
    kill -QUIT "$(head -n 1 "$0/data/postmaster.pid")"
    for _ in $(seq 100); do [ -e "$0/data/postmaster.pid" ] || break; sleep 0.1; done
    rm -rf "$0""#;

/// A database, empty.
#[derive(Debug)]
pub struct PostgresDatabase {
    url: String,
}

impl PostgresDatabase {
    /// Creates it, and the server if there is none yet.
    ///
    /// # Panics
    ///
    /// Where the server does. So do all other functions here.
    pub async fn create() -> Self {
        let (server, _) = SERVER.get_or_init(start).await;
        let name = format!("test_{}", DATABASES.fetch_add(1, Ordering::Relaxed));
        server.execute(&format!("CREATE DATABASE {name}")).await;
        Self { url: format!("postgres://postgres@{}/{name}", server.address()) }
    }

    /// Its URL, for the superuser.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Runs statements on a fresh connection.
    pub async fn execute(&self, sql: &str) {
        let mut connection = PgConnection::connect(&self.url).await.expect("a connection");
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.expect("statements that can be run");
        connection.close().await.expect("the end of the connection");
    }
}

async fn start() -> (PostgresServer, Child) {
    let server = PostgresServer::start_with(&["max_connections=400"]).await;
    let mut stop = Command::new("sh");
    stop.args(["-c", STOP]).arg(server.folder()).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    // In a group of its own: what interrupts the tests is not for it.
    let stop = std::os::unix::process::CommandExt::process_group(&mut stop, 0).spawn().expect("sh");
    (server, stop)
}
