//! Moves money between accounts in a SQL database, and proves from the books that each transfer was made once.

#![expect(clippy::duplicate_mod, reason = "the files in `on_each_database` are compiled once for each database")]

mod audit;
mod crash;
mod load;
mod postgres;
mod report;
mod sqlite;
mod tally;
mod transfer;

use std::{error::Error, process::ExitCode};

use clap::Parser;
use idempotent_examples::{chain, print, say};
use tokio::time::Instant;

/// Moves money between accounts in a SQL database, for clients that retry, ask twice and give up, and proves from the
/// books that each transfer was made once, to the cent.
#[derive(Parser)]
#[command(
    name = "transfers",
    after_help = "Start it as often as you like, also at the same time: the same seed is the same load, and each of its
transfers is made once. Kill it, and the database, whenever you like.

Exit codes:
  0  every transfer was settled, and the books are proven
  1  the proof failed, or a transfer got no answer because of an error
  2  usage, or unreachable database"
)]
struct Args {
    /// The database with the books: a file, `sqlite://PATH`, or a server,
    /// `postgres://[user[:password]@]host[:port]/database`.
    #[arg(long, value_name = "URL", default_value = "sqlite://transfers.db")]
    store: String,
    /// How many transfers there are.
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    transfers: u64,
    /// The number of the first of them.
    #[arg(long, value_name = "N", default_value_t = 1)]
    first: u64,
    /// What the load is made from.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Print one summary object instead of the table.
    #[arg(long)]
    json: bool,
    /// Make no transfers: only check the books.
    #[arg(long)]
    check: bool,
    /// Make the transfers, and leave the check of the books to somebody else.
    #[arg(long, conflicts_with = "check")]
    work: bool,
    /// Crash once the transfers have waited for the database this often.
    #[arg(long, value_name = "WAITS")]
    crash: Option<u32>,
}

type Failure = Box<dyn Error + Send + Sync>;

#[tokio::main]
async fn main() -> ExitCode {
    match run(&Args::parse()).await {
        Ok(proven) => ExitCode::from(u8::from(!proven)),
        Err(error) => {
            say(chain(&*error));
            ExitCode::from(2)
        }
    }
}

async fn run(args: &Args) -> Result<bool, Failure> {
    let begin = Instant::now();
    let (summary, store) = if args.store.starts_with("sqlite:") {
        (sqlite::run(args).await?, "SQLite")
    } else if args.store.starts_with("postgres://") || args.store.starts_with("postgresql://") {
        (postgres::run(args).await?, "PostgreSQL")
    } else {
        return Err("--store is neither a `sqlite://` nor a `postgres://` URL".into());
    };
    if let Some(error) = &summary.first_error {
        say(format_args!("the first error: {error}"));
    }
    print(&if args.json {
        report::json(&summary)?
    } else {
        report::Table { summary: &summary, store, took: begin.elapsed() }.to_string()
    })?;
    Ok(summary.is_ok())
}
