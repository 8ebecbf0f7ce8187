//! Takes webhooks of GitHub, Stripe and Standard Webhooks senders, and processes each event once.

#![expect(
    clippy::duplicate_mod,
    reason = "generic code over sqlx's databases would need a page of bounds for each function"
)]

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

/// Takes webhooks of GitHub, Stripe and Standard Webhooks senders. Verifies each delivery, and processes each event once: its
/// effects and its record are committed together.
#[derive(Parser)]
#[command(
    name = "webhooks",
    after_help = "Give several secrets, separated by commas, while one replaces another: all of them are valid.

Exit codes:
  0  stopped by Ctrl-C
  2  wrong usage, database not reachable, or address in use"
)]
struct Args {
    /// Address to listen on; port 0 takes a free port.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// Database of the effects and of the records: a file, `sqlite://PATH`, or a server, `postgres://[user[:password]@]host[:port]/database`.
    #[arg(long, value_name = "URL", default_value = "sqlite://webhooks.db")]
    store: String,
    #[command(flatten)]
    secrets: senders::Secrets,
    /// Number of workers, which process the deliveries that are accepted first.
    #[arg(long, value_name = "N", default_value_t = 1)]
    workers: usize,
    /// Stop each delivery at this point for good, so that you can kill the program there.
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
