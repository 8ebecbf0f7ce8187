//! The program, as a process.

use std::{
    fs,
    path::Path,
    process::{Command, ExitStatus},
};

use idempotent_tests::process::Process;
use tempfile::NamedTempFile;

/// The process, and what it says.
pub(crate) struct Server {
    process: Process,
    arguments: Vec<String>,
    /// `http://…`
    pub(crate) url: String,
    /// The commands that it prints.
    pub(crate) greeting: String,
    log: NamedTempFile,
}

impl Server {
    /// Starts a server on a free port.
    pub(crate) async fn start(store: &str, arguments: &[&str]) -> Self {
        let arguments: Vec<_> =
            ["--store", store].iter().chain(arguments).map(|&argument| argument.to_owned()).collect();
        let log = NamedTempFile::new().unwrap();
        let (process, url, greeting) = spawn(&arguments, "127.0.0.1:0", log.path()).await;
        Self { process, arguments, url, greeting, log }
    }

    /// Kills it, as a crash does.
    pub(crate) fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again, where clients look for it.
    pub(crate) async fn restart(&mut self) {
        let address = self.url.strip_prefix("http://").unwrap();
        (self.process, ..) = spawn(&self.arguments, address, self.log.path()).await;
    }

    /// Tells it to stop, and waits until it has.
    pub(crate) fn stop(&mut self) -> ExitStatus {
        self.process.end("-TERM")
    }

    /// Counts how often this server, and those that ran before it, wrote this to the log.
    pub(crate) fn said(&self, what: &str) -> usize {
        fs::read_to_string(self.log.path()).unwrap().matches(what).count()
    }
}

async fn spawn(arguments: &[String], listen: &str, log: &Path) -> (Process, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_charges"));
    command.args(arguments).args(["--listen", listen]);
    let mut process = Process::talk_with_log(&mut command, log);
    let first = process.line().await.unwrap_or_default();
    let url = first.strip_prefix("listening on ").expect("the server starts").to_owned();
    // To the end of the greeting: it prints nothing else.
    let mut greeting = String::new();
    while let Some(line) = process.line().await {
        greeting.extend([line.as_str(), "\n"]);
        if line.contains("another account") {
            break;
        }
    }
    (process, url, greeting)
}
