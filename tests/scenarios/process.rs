//! Workers: callers that are processes of their own.

use std::process::Stdio;

use idempotent_tests::{
    redis_server::{RedisServer, wait_for},
    worker::{self, Plan, Report},
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    process::{Child, ChildStdout, Command},
};

/// A worker process. Killed when it is dropped.
pub(crate) struct Worker {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Worker {
    /// A worker that is connected and waits for [`go`](Self::go).
    pub(crate) async fn start(plan: &Plan) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_worker"))
            .arg(serde_json::to_string(plan).expect("JSON"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the worker");
        let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        assert_eq!(lines.next_line().await.expect("a line").as_deref(), Some("ready"));
        Self { child, lines }
    }

    /// Has it make its calls.
    pub(crate) async fn go(&mut self) {
        self.child.stdin.as_mut().expect("a pipe").write_all(b"go\n").await.expect("a worker that listens");
    }

    /// Waits for what came of them.
    pub(crate) async fn report(mut self) -> Report {
        let line = self.lines.next_line().await.expect("a line").expect("a report");
        assert!(self.child.wait().await.expect("an end").success());
        serde_json::from_str(&line).expect("a report")
    }

    /// Kills it, as a crash does.
    pub(crate) async fn kill(mut self) {
        self.child.kill().await.expect("SIGKILL");
    }
}

/// A plan of one call that charges 1.
pub(crate) fn plan(server: &RedisServer, order: &str) -> Plan {
    Plan { url: server.url(), order: order.to_owned(), amount: 1, calls: 1, hold: false }
}

/// How often the body has run for an order whose amount is 1.
pub(crate) async fn effects(server: &RedisServer, order: &str) -> u64 {
    server.command::<Option<u64>>(&["GET", &worker::effects(order)]).await.unwrap_or_default()
}

/// Waits until it has run so often.
pub(crate) async fn wait_for_effects(server: &RedisServer, order: &str, count: u64) {
    wait_for("the effects", async || effects(server, order).await >= count).await;
}
