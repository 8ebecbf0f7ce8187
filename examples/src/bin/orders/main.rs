//! Places orders in processes that are killed at random, and proves that each was charged, reserved and mailed once.

#![expect(
    clippy::duplicate_mod,
    reason = "generic code over sqlx's databases would need a page of bounds for each function"
)]

mod audit;
mod chronicle;
mod kills;
mod order;
mod outside;
mod places;
mod process;
mod report;
mod service;
mod shop;
mod stock;
mod supervisor;
mod worker;

use std::{error::Error, path::PathBuf, process::ExitCode, sync::Arc};

use clap::Parser;
use idempotent_examples::{chain, print, say};
use tokio::time::Instant;

use self::{
    audit::Audit,
    chronicle::Chronicle,
    outside::{Ledger, Server},
    places::Places,
    report::{Summary, Table},
    shop::Shop,
    supervisor::{Run, Supervisor},
};

/// Places orders in several processes that are killed at random. An order is charged by a card network, reserved in a SQL
/// database, and confirmed by mail. Proves from the books of all three that each of it happened once.
#[derive(Parser)]
#[command(
    name = "orders",
    after_help = "Start it as often as you like, also several times at once: the same seed gives the same orders, and each of
them is placed once. Kill the program whenever you like, and start it again.

Exit codes:
  0  every order was placed, and it is proven
  1  the proof failed, or an order was not placed
  2  wrong usage, or store not reachable"
)]
struct Args {
    /// Store of the records: `sqlite://PATH`, `postgres://[user[:password]@]host[:port]/database`, or
    /// `redis://[user[:password]@]host[:port][/db]`.
    #[arg(long, value_name = "URL", default_value = "sqlite://orders.db")]
    store: String,
    /// SQL database with the stock. By default the store, or a SQLite file if the store is Redis.
    #[arg(long, value_name = "URL")]
    stock: Option<String>,
    /// SQLite file with the books of the card network and the mail server. By default, one for each store.
    #[arg(long, value_name = "FILE")]
    world: Option<PathBuf>,
    /// Number of orders.
    #[arg(long, value_name = "N", default_value_t = 200)]
    orders: u64,
    /// Number of kills, at most half as many as there are orders.
    #[arg(long, value_name = "N", default_value_t = 40)]
    crash: u64,
    /// Number of worker processes.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=64))]
    workers: u8,
    /// Seed of the orders, the faults and the kills.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Print one summary object instead of the table.
    #[arg(long)]
    json: bool,
    /// Check the books, and place no orders.
    #[arg(long)]
    check: bool,
    /// Be a worker of the supervisor whose outside world has this address.
    #[arg(long, value_name = "ADDRESS", hide = true)]
    worker: Option<String>,
}

type Failure = Box<dyn Error + Send + Sync>;

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    let ended = match &args.worker {
        Some(outside) => worker::work(&args, outside).await.map(|()| true),
        None => run(&args).await,
    };
    match ended {
        Ok(proven) => ExitCode::from(u8::from(!proven)),
        Err(error) => {
            say(chain(&*error));
            ExitCode::from(2)
        }
    }
}

async fn run(args: &Args) -> Result<bool, Failure> {
    let begin = Instant::now();
    if args.crash > args.orders / 2 {
        return Err("--crash is more than half of --orders: some order would use up all its attempts".into());
    }
    let places = Places::of(args)?;
    let ledger = Ledger::open(&places.world).await;
    let ledger = ledger.map_err(|error| format!("{} cannot be opened: {error}", places.world.display()))?;
    let chronicle = Arc::new(Chronicle::begin());
    let (server, outside) = Server::start(ledger, Arc::clone(&chronicle), args.seed).await?;
    let outside = outside.to_string();
    // Creates the tables, and finds out whether the store can be reached.
    Shop::open(args, &outside).await?;
    let run = if args.check {
        Run::default()
    } else {
        let bar = report::progress(args.orders, !args.json);
        let run = Supervisor::new(args, outside, Arc::clone(&chronicle), bar.clone()).work().await?;
        bar.finish_and_clear();
        run
    };
    if let Some(error) = &run.first_error {
        say(format_args!("the first error: {error}"));
    }
    let audit = Audit::read(args, &places, server.ledger(), &run.confirmations).await?;
    let summary = Summary::new(run, server.counts(), audit);
    print(&if args.json {
        report::json(&summary)?
    } else {
        Table { summary: &summary, store: places.store, story: chronicle.story(), took: begin.elapsed() }.to_string()
    })?;
    Ok(summary.ok)
}
