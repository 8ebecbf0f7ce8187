//! A worker's process, as the supervisor has it.

use std::{env, process::Stdio};

use idempotent_examples::say;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    process::{Child, ChildStdin, ChildStdout, Command},
    sync::mpsc::UnboundedSender,
};

use crate::{Args, Failure, worker::Said};

/// Something that a process said; `None` when it has ended.
pub(crate) type Heard = (usize, Option<Said>);

pub(crate) struct Process {
    child: Child,
    input: ChildStdin,
    /// True once it has said that it can be given orders.
    pub(crate) is_ready: bool,
    pub(crate) is_killed: bool,
    /// The numbers of the orders that it was given and has not answered.
    pub(crate) under_way: Vec<u64>,
}

impl Process {
    /// Starts this program as a worker in a place, and has what it says passed on.
    pub(crate) fn start(
        place: usize,
        args: &Args,
        outside: &str,
        heard: UnboundedSender<Heard>,
    ) -> Result<Self, Failure> {
        let mut command = Command::new(env::current_exe()?);
        command.args(["--worker", outside, "--store", &args.store, "--seed", &args.seed.to_string()]);
        if let Some(stock) = &args.stock {
            command.args(["--stock", stock]);
        }
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err("a worker has no pipes".into());
        };
        tokio::spawn(listen(place, output, heard));
        Ok(Self { child, input, is_ready: false, is_killed: false, under_way: Vec::new() })
    }

    /// Hands over an order. A process that has just ended does not take it: then its end gives the order back.
    pub(crate) async fn hand(&mut self, number: u64) {
        self.under_way.push(number);
        let _ = self.input.write_all(format!("{number}\n").as_bytes()).await;
    }

    /// Takes an order off those that are under way.
    pub(crate) fn answered(&mut self, number: u64) {
        if let Some(index) = self.under_way.iter().position(|&other| other == number) {
            self.under_way.swap_remove(index);
        }
    }

    /// Sends SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.is_killed = true;
        if let Err(error) = self.child.start_kill() {
            say(format_args!("a worker cannot be killed: {error}"));
        }
    }
}

async fn listen(place: usize, output: ChildStdout, heard: UnboundedSender<Heard>) {
    let mut lines = BufReader::new(output).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        // Killed in the middle of a line, it has not said it.
        if let Ok(said) = serde_json::from_str(&line) {
            let _ = heard.send((place, Some(said)));
        }
    }
    let _ = heard.send((place, None));
}
