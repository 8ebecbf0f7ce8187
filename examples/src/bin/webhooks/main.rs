//! Takes webhooks of GitHub, Stripe and Standard Webhooks senders, and works each event off once.

#![expect(clippy::duplicate_mod, reason = "the files in `on_each_database` are compiled once for each database")]

mod answer;
mod events;
mod guide;
mod postgres;
mod senders;
mod sqlite;
mod stall;

use std::{error::Error, net::SocketAddr, process::ExitCode};

use clap::Parser;
use idempotent_examples::{chain, say};
use tokio::net::TcpListener;

use self::stall::Stall;

/// Takes webhooks of GitHub, Stripe and Standard Webhooks senders. Each event is verified, and worked off once: its
/// effects and its record are committed together.
#[derive(Parser)]
#[command(
    name = "webhooks",
    after_help = "Several secrets, separated by commas, are all valid: for the time in which one replaces another.

Exit codes:
  0  stopped with Ctrl-C
  2  usage, unreachable database, address in use"
)]
struct Args {
    /// Where to listen; port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// The database: a file, `sqlite://PATH`, or a server, `postgres://[user[:password]@]host[:port]/database`.
    #[arg(long, value_name = "URL", default_value = "sqlite://webhooks.db")]
    store: String,
    #[command(flatten)]
    secrets: senders::Secrets,
    /// How many deliveries are worked off at a time, of those that are accepted first.
    #[arg(long, value_name = "N", default_value_t = 1)]
    workers: usize,
    /// Stop at this point of each delivery for good, to be killed there.
    #[arg(long, value_name = "POINT")]
    stall: Option<Stall>,
}

type Failure = Box<dyn Error + Send + Sync>;

#[tokio::main]
async fn main() -> ExitCode {
    match run(&Args::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(chain(&*error));
            ExitCode::from(2)
        }
    }
}

async fn run(args: &Args) -> Result<(), Failure> {
    let listener =
        TcpListener::bind(args.listen).await.map_err(|error| format!("--listen {}: {error}", args.listen))?;
    if args.store.starts_with("sqlite:") {
        sqlite::run(args, listener).await
    } else if args.store.starts_with("postgres://") || args.store.starts_with("postgresql://") {
        postgres::run(args, listener).await
    } else {
        Err("--store is neither a `sqlite://` nor a `postgres://` URL".into())
    }
}
