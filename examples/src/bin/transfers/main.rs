//! Moves money between accounts in a SQL database, and proves from the books that each transfer was made once.

#![expect(
    clippy::duplicate_mod,
    reason = "generic code over sqlx's databases would need a page of bounds for each function"
)]

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

/// Moves money between accounts in a SQL database, for clients that retry, send duplicates and give up. Proves from the
/// books that each transfer was made once, to the cent.
#[derive(Parser)]
#[command(
    name = "transfers",
    after_help = "Start it as often as you like, also several times at once: the same seed gives the same load, and each
transfer of it is made once. Kill the program or the database whenever you like.

Exit codes:
  0  every transfer was made or refused, and the books are proven
  1  the proof failed, or a transfer got no answer because of an error
  2  wrong usage, or database not reachable"
)]
struct Args {
    /// Database with the books: a file, `sqlite://PATH`, or a server,
    /// `postgres://[user[:password]@]host[:port]/database`.
    #[arg(long, value_name = "URL", default_value = "sqlite://transfers.db")]
    store: String,
    /// Number of transfers.
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    transfers: u64,
    /// Number of the first transfer.
    #[arg(long, value_name = "N", default_value_t = 1)]
    first: u64,
    /// Seed of the load.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Print one summary object instead of the table.
    #[arg(long)]
    json: bool,
    /// Check the books, and make no transfers.
    #[arg(long)]
    check: bool,
    /// Make the transfers, and do not check the books.
    #[arg(long, conflicts_with = "check")]
    work: bool,
    /// Crash after the transfers have waited for the database this often.
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
