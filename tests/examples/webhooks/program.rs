//! The program, as a process, and a client.

use std::{process::Command, sync::Mutex};

use bytes::Bytes;
use http::StatusCode;
use http_body_util::{BodyExt as _, Full};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use idempotent_tests::process::Process;
use serde_json::Value;

use crate::deliveries::{Delivery, GITHUB_SECRET, STANDARD_KEY, STRIPE_SECRET, standard_secret};

/// The program on a free port, with the secrets of the tests.
pub(crate) fn command(url: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_webhooks"));
    command.args(["--listen", "127.0.0.1:0", "--store", url]).args(arguments);
    command.env("STRIPE_WEBHOOK_SECRET", STRIPE_SECRET);
    command.env("GITHUB_WEBHOOK_SECRET", GITHUB_SECRET);
    command.env("STANDARD_WEBHOOK_SECRET", standard_secret(STANDARD_KEY));
    command
}

type Http = Client<HttpConnector, Full<Bytes>>;

fn client() -> Http {
    Client::builder(TokioExecutor::new()).build_http()
}

async fn post(client: &Http, address: &str, delivery: &Delivery) -> Option<Reply> {
    let mut request = http::Request::post(format!("{address}{}", delivery.endpoint));
    for (name, value) in &delivery.headers {
        request = request.header(*name, value);
    }
    let request = request.body(Full::from(delivery.body.clone())).unwrap();
    let response = client.request(request).await.ok()?;
    let status = response.status();
    let body = response.into_body().collect().await.ok()?.to_bytes();
    Some(Reply { status, json: serde_json::from_slice(&body).unwrap_or(Value::Null) })
}

/// Sends to another server.
pub(crate) async fn post_to(address: &str, delivery: &Delivery) -> Option<Reply> {
    post(&client(), address, delivery).await
}

/// A process of it.
pub(crate) struct Program {
    process: tokio::sync::Mutex<Process>,
    pub(crate) address: String,
    client: Http,
    /// Everything that was read of its output.
    pub(crate) told: Mutex<String>,
}

/// An answer of the program.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) json: Value,
}

impl Reply {
    #[track_caller]
    pub(crate) fn assert(&self, status: u16, outcome: &str, replayed: bool) {
        let expected = (status, Some(outcome), Some(replayed));
        assert_eq!(
            (self.status.as_u16(), self.json["outcome"].as_str(), self.json["replayed"].as_bool()),
            expected,
            "{self:?}"
        );
    }

    /// Checks that the event was done: by this delivery, or by an earlier one if `replayed`.
    #[track_caller]
    pub(crate) fn assert_done(&self, replayed: bool) {
        let (status, outcome) = if self.status == StatusCode::ACCEPTED { (202, "accepted") } else { (200, "applied") };
        self.assert(status, outcome, replayed);
    }

    #[track_caller]
    pub(crate) fn assert_refused(&self, status: u16) {
        assert_eq!((self.status.as_u16(), self.json["error"].is_string()), (status, true), "{self:?}");
    }
}

impl Program {
    pub(crate) async fn start(url: &str, arguments: &[&str]) -> Self {
        Self::of(command(url, arguments)).await
    }

    pub(crate) async fn of(mut command: Command) -> Self {
        let process = Process::talk(&mut command).into();
        let mut program = Self { process, address: String::new(), client: client(), told: Mutex::default() };
        let line = program.line(|line| line.starts_with("url=")).await;
        line.split('\'').nth(1).unwrap().clone_into(&mut program.address);
        program
    }

    /// Waits for a line of its output.
    async fn line(&self, is_it: impl Fn(&str) -> bool) -> String {
        let mut process = self.process.lock().await;
        loop {
            let line = process.line().await.expect("the program goes on");
            self.told.lock().unwrap().extend([line.as_str(), "\n"]);
            if is_it(&line) {
                return line;
            }
        }
    }

    pub(crate) async fn told_until(&self, line: &str) -> String {
        self.line(|told| told == line).await;
        self.told.lock().unwrap().clone()
    }

    /// Kills it with signal 9.
    pub(crate) fn kill(self) {
        self.process.into_inner().kill();
    }

    /// Stops it with Ctrl-C, and tells its exit code.
    pub(crate) async fn interrupt(self) -> Option<i32> {
        let mut process = self.process.into_inner();
        process.signal("-INT");
        process.wait().await.code()
    }

    /// Kills it with signal 9, once it has stalled.
    pub(crate) async fn kill_where_it_stalls(self) {
        self.told_until("stalled").await;
        self.kill();
    }

    pub(crate) async fn send(&self, delivery: &Delivery) -> Reply {
        self.try_send(delivery).await.expect("an answer")
    }

    /// Sends a delivery; `None` if the process dies before it answers.
    pub(crate) async fn try_send(&self, delivery: &Delivery) -> Option<Reply> {
        post(&self.client, &self.address, delivery).await
    }

    /// The program's own overview of what was done.
    pub(crate) async fn overview(&self) -> Value {
        let request = http::Request::get(format!("{}/", self.address)).body(Full::default()).unwrap();
        let body = self.client.request(request).await.unwrap().into_body().collect().await.unwrap();
        serde_json::from_slice(&body.to_bytes()).unwrap()
    }
}
