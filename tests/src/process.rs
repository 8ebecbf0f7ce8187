//! Processes that tests start: servers, workers, programs.

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::missing_panics_doc,
    reason = "a harness that cannot do its work fails the test"
)]

use std::{
    fs::{self, File, OpenOptions},
    io::Write as _,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines},
    process::ChildStdout,
    time::sleep,
};

const POLL: Duration = Duration::from_millis(5);

/// A process, killed when it is dropped. In a panic its log is printed first, if it keeps one.
#[derive(Debug)]
pub struct Process {
    child: Child,
    /// The lines of a process that is talked to.
    output: Option<Lines<BufReader<ChildStdout>>>,
    log: Option<PathBuf>,
}

impl Process {
    /// Starts a process that is not talked to, and appends what it writes to its log.
    ///
    /// # Panics
    ///
    /// Where the command cannot be run. All other functions here panic where they cannot do their work.
    #[must_use]
    pub fn start(command: &mut Command, log: &Path) -> Self {
        Self::spawn(command.stdin(Stdio::null()).stdout(appended(log)).stderr(appended(log)), Some(log))
    }

    /// Starts a process that is talked to line by line, from within a tokio runtime. Its errors go to ours.
    #[must_use]
    pub fn talk(command: &mut Command) -> Self {
        Self::spawn(command.stdin(Stdio::piped()).stdout(Stdio::piped()), None).with_output()
    }

    /// Starts a process that is talked to line by line, and appends its errors to its log.
    #[must_use]
    pub fn talk_with_log(command: &mut Command, log: &Path) -> Self {
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(appended(log));
        Self::spawn(command, Some(log)).with_output()
    }

    fn with_output(mut self) -> Self {
        let output = ChildStdout::from_std(self.child.stdout.take().expect("a pipe")).expect("a runtime");
        self.output = Some(BufReader::new(output).lines());
        self
    }

    fn spawn(command: &mut Command, log: Option<&Path>) -> Self {
        let child = command.spawn().unwrap_or_else(|error| panic!("{command:?} cannot be run: {error}"));
        Self { child, output: None, log: log.map(Path::to_owned) }
    }

    /// Waits for a line of its standard output; `None` at its end.
    pub async fn line(&mut self) -> Option<String> {
        self.output.as_mut().expect("a process that is talked to").next_line().await.expect("a line")
    }

    /// Writes a line to its standard input.
    pub fn say(&mut self, line: &str) {
        let input = self.child.stdin.as_mut().expect("a process that is talked to");
        writeln!(input, "{line}").expect("a process that listens");
    }

    /// Closes its standard input.
    pub fn hang_up(&mut self) {
        drop(self.child.stdin.take());
    }

    /// Sends a signal: `"-STOP"`.
    pub fn signal(&self, signal: &str) {
        let status = Command::new("kill").arg(signal).arg(self.child.id().to_string()).status().expect("kill");
        assert!(status.success(), "kill {signal} failed");
    }

    /// Kills it, as a crash does, and waits for its end.
    pub fn kill(&mut self) -> ExitStatus {
        self.child.kill().expect("SIGKILL");
        self.child.wait().expect("the end of the process")
    }

    /// Sends a signal that ends it, and waits for its end.
    pub fn end(&mut self, signal: &str) -> ExitStatus {
        self.signal(signal);
        self.child.wait().expect("the end of the process")
    }

    /// Returns how it has ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child")
    }

    /// Waits until it ends by itself.
    pub async fn wait(&mut self) -> ExitStatus {
        loop {
            if let Some(status) = self.ended() {
                return status;
            }
            sleep(POLL).await;
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself; a frozen process is killed as well.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(log) = self.log.as_ref().filter(|_| std::thread::panicking()) {
            eprintln!("--- {}\n{}", log.display(), fs::read_to_string(log).unwrap_or_default());
        }
    }
}

fn appended(log: &Path) -> File {
    OpenOptions::new().create(true).append(true).open(log).expect("a log file")
}
