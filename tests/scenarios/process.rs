//! Workers: callers that are processes of their own.

use std::process::Command;

use idempotent_tests::{
    process::Process,
    redis_server::RedisServer,
    wait::wait_for,
    worker::{self, Plan, Report},
};

/// A process of the program `worker`.
pub(crate) struct Worker(Process);

impl Worker {
    /// A worker that is connected and waits for [`go`](Self::go).
    pub(crate) async fn start(plan: &Plan) -> Self {
        let plan = serde_json::to_string(plan).expect("JSON");
        let mut process = Process::talk(Command::new(env!("CARGO_BIN_EXE_worker")).arg(plan));
        assert_eq!(process.line().await.as_deref(), Some("ready"));
        Self(process)
    }

    /// Has it make its calls.
    pub(crate) fn go(&mut self) {
        self.0.say("go");
    }

    /// Waits for what came of them.
    pub(crate) async fn report(mut self) -> Report {
        let line = self.0.line().await.expect("a report");
        assert!(self.0.wait().await.success());
        serde_json::from_str(&line).expect("a report")
    }

    /// Kills it, as a crash does.
    pub(crate) fn kill(mut self) {
        self.0.kill();
    }
}

/// A plan of one call that charges 1.
pub(crate) fn plan(server: &RedisServer, order: &str) -> Plan {
    Plan { url: server.url(), order: order.to_owned(), amount: 1, calls: 1, hold: false }
}

/// Counts the runs of the body for an order whose amount is 1.
pub(crate) async fn effects(server: &RedisServer, order: &str) -> u64 {
    server.command::<Option<u64>>(&["GET", &worker::effects(order)]).await.unwrap_or_default()
}

/// Waits until the body has run this often.
pub(crate) async fn wait_for_effects(server: &RedisServer, order: &str, count: u64) {
    wait_for("the effects", async || effects(server, order).await >= count).await;
}
