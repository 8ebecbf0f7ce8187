//! Serves the operators' page, over records some of which need somebody.

mod demo;
mod staff;

use std::{error::Error, net::SocketAddr, process::ExitCode};

use axum::{Router, middleware::from_fn_with_state, response::Redirect, routing::get};
use clap::Parser;
use idempotent_examples::{chain, print, say};
use idempotent_runtime::{Idempotency, admin::Admin};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};

use self::staff::{Login, staff};

/// Serves the operators' page, over records some of which need somebody.
#[derive(Parser)]
#[command(
    name = "admin",
    after_help = "Exit codes:
  0  stopped by Ctrl-C or SIGTERM
  2  wrong usage, store not reachable, or address in use"
)]
struct Args {
    /// Store of the records: `memory:`, `sqlite://PATH`, `postgres://[user[:password]@]host[:port]/database`, or
    /// `redis://[user[:password]@]host[:port][/db]`. The program adds records of operations whose names begin with `demo.`.
    #[arg(long, value_name = "URL", default_value = "memory:")]
    store: String,
    /// Address to listen on.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// Let nobody resolve a record.
    #[arg(long)]
    read_only: bool,
    /// Show stored bytes: arguments, results, errors.
    #[arg(long)]
    reveal: bool,
    /// Name of the operator.
    #[arg(long, value_name = "NAME", default_value = "alice")]
    user: String,
    /// Password of the operator. Drawn at random unless it is given.
    #[arg(long, value_name = "TEXT", env = "ADMIN_PASSWORD", hide_env_values = true)]
    password: Option<String>,
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
    let listener =
        TcpListener::bind(args.listen).await.map_err(|error| format!("--listen {}: {error}", args.listen))?;
    let idempotency = Idempotency::builder().record_arguments(true).context(demo::caller).connect(&args.store).await?;
    let _traffic = demo::begin(&idempotency).await?;

    let (may_act, may_reveal) = (!args.read_only, args.reveal);
    let page = Admin::new(idempotency, |request| staff(request).is_some())
        .who_may_act(move |request| staff(request).filter(|_| may_act).map(|staff| staff.name.clone()))
        .may_reveal(move |_| may_reveal)
        .router();
    let password = args.password.unwrap_or_else(|| format!("{:016x}", rand::random::<u64>()));
    let login = Login { user: args.user, password };
    let service = Router::new()
        .nest("/admin", page)
        .layer(from_fn_with_state(login.clone(), staff::authenticate))
        .route("/", get(async || Redirect::to("admin")));
    print(&format!(
        "open http://{}/admin and log in as {} with the password {}\n",
        listener.local_addr()?,
        login.user,
        login.password
    ))?;
    axum::serve(listener, service).with_graceful_shutdown(told_to_stop()?).await?;
    Ok(())
}

/// Waits for Ctrl-C, or for SIGTERM, with which service managers stop a program.
fn told_to_stop() -> Result<impl Future<Output = ()> + Send, Failure> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}
