//! Pushes a log of payment requests through two idempotent functions, and proves that each order was charged once.

mod audit;
mod bank;
mod gateway;
mod generate;
mod ledger;
mod log;
mod report;
mod service;
mod tally;

use std::{
    fs::File,
    io::{self, BufReader},
    panic::resume_unwind,
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
};

use clap::Parser;
use idempotent_examples::{chain, print, say};
use idempotent_runtime::{Idempotency, install};
use indicatif::ProgressBar;
use tokio::{
    sync::mpsc,
    task::{JoinError, JoinHandle, JoinSet},
    time::Instant,
};

use self::{
    bank::Bank,
    gateway::Outcome,
    ledger::{Failure, Ledger},
    log::Line,
    tally::Tally,
};

/// The number of deliveries under way at a time.
const IN_FLIGHT: usize = 256;

/// Pushes a log of payment requests, as a gateway would send them, through two idempotent functions. Proves from the bank's
/// ledger that each accepted order was charged once.
#[derive(Parser)]
#[command(
    name = "payments",
    after_help = "Exit codes:
  0  everything was processed and proven
  1  the proof failed, or a delivery got no answer because of an error
  2  wrong usage, input not readable, or store not reachable
  3  processed and proven, but some lines were malformed (they are named on standard error)"
)]
struct Args {
    /// File with the log, one JSON object for each line; `-` for standard input. By default, a built-in log.
    #[arg(conflicts_with = "print_log")]
    file: Option<PathBuf>,
    /// Store of the records and of the bank's ledger: `memory:`, or one that processes share, such as
    /// `redis://[user[:password]@]host[:port][/db]`, `postgres://[user[:password]@]host[:port]/database`, or
    /// `sqlite://path`.
    #[arg(long, value_name = "URL", default_value = "memory:")]
    store: String,
    /// Print one summary object instead of the table.
    #[arg(long)]
    json: bool,
    /// Print the built-in log, and do nothing else.
    #[arg(long)]
    print_log: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    match run(&args).await {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            say(chain(&*error));
            ExitCode::from(2)
        }
    }
}

async fn run(args: &Args) -> Result<u8, Failure> {
    if args.print_log {
        print(&report::lines(&generate::deliveries())?)?;
        return Ok(0);
    }
    let (ledger, store) = connect(&args.store).await?;
    let begin = Instant::now();
    let Source { len, lines, reader } = open(args)?;
    let bar = report::progress(len, !args.json);
    let tally = push(lines, &ledger, &bar).await;
    bar.finish_and_clear();
    reader.await?.map_err(|error| format!("the log cannot be read any further: {error}"))?;

    if let Some(error) = tally.first_error() {
        say(format_args!("the first error: {error}"));
    }
    let summary = tally.audit(&ledger).await.map_err(|error| format!("the bank's ledger cannot be read: {error}"))?;
    print(&if args.json {
        report::json(&summary)?
    } else {
        report::Table { summary: &summary, store, took: begin.elapsed() }.to_string()
    })?;
    Ok(match (summary.ok, summary.malformed) {
        (false, _) => 1,
        (true, 0) => 0,
        (true, _) => 3,
    })
}

/// Installs the store, and opens the bank's ledger beside it.
async fn connect(url: &str) -> Result<(Arc<Ledger>, &'static str), Failure> {
    let scheme = url.split_once(':').map_or(url, |(scheme, _)| scheme);
    let store = match scheme {
        "memory" => "embedded",
        "redis" => "Redis",
        "postgres" | "postgresql" => "PostgreSQL",
        "sqlite" => "SQLite",
        _ => return Err("--store is neither `memory:` nor a URL of `redis`, `postgres` or `sqlite`".into()),
    };
    // Creates the SQLite file.
    install(Idempotency::connect(url).await?)?;
    let ledger = match scheme {
        "memory" => Ok(Ledger::memory()),
        "redis" => Ledger::redis(url).await,
        _ => Ledger::sql(url).await,
    };
    let ledger = ledger.map_err(|error| format!("the bank's ledger cannot be reached: {error}"))?;
    Ok((Arc::new(ledger), store))
}

/// The log while it is read.
struct Source {
    /// The number of lines, if it is known.
    len: Option<u64>,
    lines: mpsc::Receiver<Line>,
    reader: JoinHandle<io::Result<()>>,
}

/// Starts to read the log, on a thread of its own and only as far ahead as needed.
fn open(args: &Args) -> Result<Source, Failure> {
    let (sender, lines) = mpsc::channel(IN_FLIGHT);
    let receiver = move |line| sender.blocking_send(line).is_ok();
    let (len, reader) = match &args.file {
        None => {
            let deliveries = generate::deliveries();
            let len = deliveries.len() as u64;
            let read = move || {
                deliveries.into_iter().map(Line::Delivery).all(receiver);
                Ok(())
            };
            (Some(len), tokio::task::spawn_blocking(read))
        }
        Some(path) if path.as_os_str() == "-" => {
            (None, tokio::task::spawn_blocking(|| log::read(io::stdin().lock(), receiver)))
        }
        Some(path) => {
            let file = File::open(path).map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
            (None, tokio::task::spawn_blocking(|| log::read(BufReader::new(file), receiver)))
        }
    };
    Ok(Source { len, lines, reader })
}

/// Delivers the log, many deliveries at a time.
async fn push(mut lines: mpsc::Receiver<Line>, ledger: &Arc<Ledger>, bar: &ProgressBar) -> Tally {
    let mut tally = Tally::default();
    let mut under_way = JoinSet::new();
    // Makes the names of this process's runs different from those of other processes on the same ledger.
    let process: u64 = rand::random();
    let mut number: u64 = 0;
    while let Some(line) = lines.recv().await {
        match line {
            Line::Malformed { number, why } => {
                tally.malformed();
                bar.suspend(|| say(format_args!("line {number}: {why}")));
            }
            Line::Delivery(delivery) => {
                if under_way.len() == IN_FLIGHT
                    && let Some(ended) = under_way.join_next().await
                {
                    tally.add(outcome(ended));
                    bar.inc(1);
                }
                number += 1;
                let bank = Bank::new(ledger, format!("{process:016x}-{number}"), delivery.fault);
                under_way.spawn(gateway::deliver(delivery, bank));
            }
        }
    }
    while let Some(ended) = under_way.join_next().await {
        tally.add(outcome(ended));
        bar.inc(1);
    }
    tally
}

/// Takes a delivery's outcome. If the delivery panicked, the program does.
fn outcome(ended: Result<Outcome, JoinError>) -> Outcome {
    ended.unwrap_or_else(|stopped| resume_unwind(stopped.into_panic()))
}
