//! Books orders that come in as messages, each once, and tells others of it by messages, whatever is killed meanwhile.

#![expect(
    clippy::duplicate_mod,
    reason = "generic code over sqlx's databases would need a page of bounds for each function"
)]

mod books;
mod brokers;
mod consumers;
mod kills;
mod messages;
mod postgres;
mod report;
mod sqlite;
mod stop;

use std::{error::Error, process::ExitCode};

use clap::Parser;
use idempotent_examples::{chain, print, say};
use tokio::time::Instant;

use self::report::Table;

/// Books orders that come in as messages: some twice, some that nobody can decode, some with another one's id. An inbox books each
/// once; the message that follows from it leaves through an outbox, and a second inbox books it once. Proves it from the tables.
#[derive(Parser)]
#[command(
    name = "inbox",
    after_help = "Start it as often as you like: the same seed gives the same messages, and each of them is booked once. Ctrl-C ends it
after the running handlers; kill it whenever you like, and start it again.

Exit codes:
  0  every message was booked or is a dead letter, and it is proven
  1  the proof failed, or not all messages were worked off
  2  wrong usage, or database or broker not reachable"
)]
struct Args {
    /// Database of the bookings, the inboxes and the outbox: a file, `sqlite://PATH`, or a server,
    /// `postgres://[user[:password]@]host[:port]/database`.
    #[arg(long, value_name = "URL", default_value = "sqlite://inbox.db")]
    store: String,
    /// Broker: `amqp://…` is RabbitMQ, `redis://…` is Redis Streams. By default a queue in a table of the database.
    #[arg(long, value_name = "URL")]
    broker: Option<String>,
    /// Number of orders.
    #[arg(long, value_name = "N", default_value_t = 200)]
    messages: u32,
    /// Number of times that the process with the consumers is killed.
    #[arg(long, value_name = "N", default_value_t = 0)]
    kill: u32,
    /// Seed of the messages and the kills.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Print one summary object instead of the table.
    #[arg(long)]
    json: bool,
    /// Check the tables, and send nothing.
    #[arg(long)]
    check: bool,
    /// Be the process with the consumers.
    #[arg(long, hide = true)]
    consume: bool,
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
    let is_sqlite = args.store.starts_with("sqlite:");
    if !is_sqlite && !args.store.starts_with("postgres://") && !args.store.starts_with("postgresql://") {
        return Err("--store is neither a `sqlite://` nor a `postgres://` URL".into());
    }
    let is_broker = |url: &str| ["amqp://", "redis://"].iter().any(|scheme| url.starts_with(scheme));
    if !args.broker.as_deref().is_none_or(is_broker) {
        return Err("--broker is neither an `amqp://` nor a `redis://` URL".into());
    }
    if args.consume {
        if is_sqlite {
            sqlite::consume(args).await?;
        } else {
            postgres::consume(args).await?;
        }
        return Ok(true);
    }
    let (summary, store) =
        if is_sqlite { (sqlite::run(args).await?, "SQLite") } else { (postgres::run(args).await?, "PostgreSQL") };
    print(&if args.json {
        report::json(&summary)?
    } else {
        Table { summary: &summary, store, took: begin.elapsed() }.to_string()
    })?;
    Ok(summary.ok)
}
