//! The process with the consumers, as the program has it.

use std::{env, process::Stdio, time::Duration};

use idempotent_examples::say;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, ChildStdout, Command},
    time::{sleep, timeout},
};

use crate::{Args, Failure};

/// The time that the process has to get ready, and how often it may end by itself.
const READY_WITHIN: Duration = Duration::from_secs(30);
const RESTARTS: u32 = 20;
const PAUSE: Duration = Duration::from_millis(200);

pub(crate) struct Consumers<'a> {
    args: &'a Args,
    process: Child,
    restarts: u32,
}

impl<'a> Consumers<'a> {
    pub(crate) async fn start(args: &'a Args) -> Result<Self, Failure> {
        Ok(Self { args, process: start(args).await?, restarts: 0 })
    }

    /// Sends SIGKILL, and starts it again.
    pub(crate) async fn kill(&mut self) -> Result<(), Failure> {
        self.process.kill().await?;
        self.process = start(self.args).await?;
        Ok(())
    }

    /// Starts it again if it has ended by itself.
    pub(crate) async fn revive(&mut self) -> Result<(), Failure> {
        let Some(status) = self.process.try_wait()? else { return Ok(()) };
        self.restarts += 1;
        if self.restarts > RESTARTS {
            return Err("the consumers end again and again".into());
        }
        say(format_args!("the consumers have ended ({status}), and are started again"));
        sleep(PAUSE).await;
        self.process = start(self.args).await?;
        Ok(())
    }

    /// Has the running handlers end, and the process with them.
    pub(crate) async fn drain(mut self) -> Result<(), Failure> {
        drop(self.process.stdin.take());
        self.process.wait().await?;
        Ok(())
    }
}

async fn start(args: &Args) -> Result<Child, Failure> {
    let mut command = Command::new(env::current_exe()?);
    command.args(["--consume", "--store", &args.store]);
    if let Some(broker) = &args.broker {
        command.args(["--broker", broker]);
    }
    let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
    if let Some(output) = process.stdout.take() {
        timeout(READY_WITHIN, ready(output)).await.map_err(|_| "the consumers are not ready in time")?;
    }
    Ok(process)
}

/// Waits for the line that says so, or for the end of the process.
async fn ready(output: ChildStdout) {
    let _ = BufReader::new(output).lines().next_line().await;
}
