//! Serves a small part of Stripe's API, `POST /v1/charges`, and makes each charge once, however often a client tries.

#![expect(
    clippy::duplicate_mod,
    reason = "generic code over sqlx's databases would need a page of bounds for each function"
)]

mod accounts;
mod card_network;
mod faults;
mod postgres;
mod report;
mod sqlite;
mod stripe;

use std::{error::Error, net::SocketAddr, process::ExitCode, time::Duration};

use axum::{
    Router,
    middleware::{from_fn, from_fn_with_state},
};
use clap::Parser;
use idempotent_examples::{chain, print, say};
use idempotent_runtime::{Idempotency, install, tower::IdempotencyLayer};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};

use self::{
    accounts::Account,
    faults::{Fault, Faults},
};

/// The time for which a killed server's keys stay claimed. A running server renews its claims.
const LEASE: Duration = Duration::from_secs(5);

/// The interval at which expired records are removed.
const SWEEP: Duration = Duration::from_mins(10);

/// Serves a small part of Stripe's API, and makes each charge once, however often a client tries.
#[derive(Parser)]
#[command(
    name = "charges",
    after_help = "Exit codes:
  0  stopped by Ctrl-C or SIGTERM, after the running requests ended
  2  wrong usage, database not reachable, or address in use"
)]
struct Args {
    /// Database of the charges and of the records: a file, `sqlite://PATH`, or a server,
    /// `postgres://[user[:password]@]host[:port]/database`.
    #[arg(long, value_name = "URL", default_value = "sqlite://charges.db")]
    store: String,
    /// Address to listen on.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:4242")]
    listen: SocketAddr,
    /// Let half of the charges meet a fault: one of those named here, or any if none is named.
    #[arg(long, value_delimiter = ',', num_args = 0.., value_name = "FAULT,…")]
    faults: Option<Vec<Fault>>,
    /// Seed of the order of the faults.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
}

type Failure = Box<dyn Error + Send + Sync>;

#[tokio::main]
async fn main() -> ExitCode {
    match run(Args::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(chain(&*error));
            ExitCode::from(2)
        }
    }
}

async fn run(args: Args) -> Result<(), Failure> {
    let is_sqlite = args.store.starts_with("sqlite:");
    if !is_sqlite && !args.store.starts_with("postgres://") && !args.store.starts_with("postgresql://") {
        return Err("--store is neither a `sqlite://` nor a `postgres://` URL".into());
    }
    let listener =
        TcpListener::bind(args.listen).await.map_err(|error| format!("--listen {}: {error}", args.listen))?;
    // One handle for the layer and for the function that the handler calls.
    let idempotency = Idempotency::connect(&args.store).await?;
    let _sweeper = idempotency.spawn_sweeper(SWEEP);
    install(idempotency.clone())?;
    let routes = if is_sqlite { sqlite::routes(&args.store).await? } else { postgres::routes(&args.store).await? };
    let layer = IdempotencyLayer::stripe_v1("charges", idempotency)
        .scope(|request| Some(request.extensions.get::<Account>()?.0.to_owned()))
        .lease(LEASE)
        .build()?;
    let service = routes.layer(from_fn(faults::inside)).layer(layer.clone());
    let service = service.layer(from_fn(accounts::authenticate)).layer(from_fn(report::log));

    greet(listener.local_addr()?);
    let service = faulty(service, args.faults, args.seed);
    axum::serve(listener, service).with_graceful_shutdown(told_to_stop()?).await?;
    // The server has waited for its clients. This waits for handlers whose clients have gone.
    layer.idle().await;
    Ok(())
}

/// Puts the faults in front of the service, if any were asked for.
fn faulty(service: Router, faults: Option<Vec<Fault>>, seed: Option<u64>) -> Router {
    let Some(mut faults) = faults else { return service };
    if faults.is_empty() {
        faults = Fault::all();
    }
    let seed = seed.unwrap_or_else(|| rand::random::<u32>().into());
    say(format_args!("to repeat these faults: --seed {seed}"));
    service.layer(from_fn_with_state(Faults::new(faults, seed), faults::outside))
}

/// Waits for Ctrl-C, or for SIGTERM, with which service managers stop a program.
fn told_to_stop() -> Result<impl Future<Output = ()> + Send, Failure> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        say("stopping after the running requests");
    })
}

fn greet(address: SocketAddr) {
    let url = format!("http://{address}/v1/charges");
    let post = format!("curl -i {url} -u sk_test_acme: -H 'Idempotency-Key: order-17'");
    let _ = print(&format!(
        "listening on http://{address}

charge a card:              {post} -d amount=4200 -d currency=eur -d source=tok_visa
again, a replay:            the same
another amount, refused:    {post} -d amount=9900 -d currency=eur -d source=tok_visa
a card that is declined:    {} -d amount=4200 -d currency=eur -d source=tok_chargeDeclined
what was charged:           curl {url} -u sk_test_acme:
another account's charges:  curl {url} -u sk_test_globex:
",
        post.replace("order-17", "order-18")
    ));
}
