//! The server around the handlers.

use std::{sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, State},
    routing::{get, post},
};
use idempotent_examples::print;
use idempotent_runtime::install;
use sqlx::{Pool, Transaction};
use tokio::{net::TcpListener, signal, sync::Notify, task::JoinSet};

use super::{
    Db,
    books::{self, Overview},
    handlers, inbox, open,
};
use crate::{Args, Failure, answer::HookError, guide::guide, senders::Verifiers, stall::Stall};

/// The interval at which expired records are removed.
const SWEEP: Duration = Duration::from_mins(10);

/// The largest body that GitHub sends. By default, axum's handlers take 2 MiB.
const GITHUB_MAX_LEN: usize = 25 * 1024 * 1024;

/// Shared by handlers and workers.
#[derive(Clone)]
pub(crate) struct App {
    pub(crate) pool: Pool<Db>,
    pub(crate) verifiers: Arc<Verifiers>,
    /// Notified when a delivery was put into the inbox.
    pub(crate) wake: Arc<Notify>,
    pub(crate) stall: Option<Stall>,
}

impl App {
    /// Commits effects and record.
    pub(crate) async fn commit(&self, tx: Transaction<'_, Db>) -> sqlx::Result<()> {
        Stall::BeforeCommit.at(self.stall).await;
        tx.commit().await?;
        Stall::AfterCommit.at(self.stall).await;
        Ok(())
    }
}

/// Serves until Ctrl-C.
pub(crate) async fn run(args: &Args, listener: TcpListener) -> Result<(), Failure> {
    let verifiers = Arc::new(Verifiers::new(&args.secrets)?);
    let (pool, idempotency) = open(&args.store).await?;
    books::set_up(&pool).await?;
    let _sweeper = idempotency.spawn_sweeper(SWEEP);
    install(idempotency)?;
    let app = App { pool, verifiers, wake: Arc::new(Notify::new()), stall: args.stall };
    let mut workers = JoinSet::new();
    for _ in 0..args.workers {
        workers.spawn(inbox::work(app.clone()));
    }
    let router = Router::new()
        .route("/", get(overview))
        .route(handlers::STRIPE, post(handlers::stripe))
        .route(handlers::GITHUB, post(handlers::github).layer(DefaultBodyLimit::max(GITHUB_MAX_LEN)))
        .route(handlers::STANDARD, post(handlers::standard))
        .route(handlers::QUEUED, post(handlers::queued))
        .with_state(app);
    print(&guide(listener.local_addr()?, &args.secrets))?;
    // A worker that is stopped half-way is rolled back; the next one starts again.
    let stop = async { drop(signal::ctrl_c().await) };
    if args.stall.is_some() {
        // Stalled deliveries never end, so that a graceful shutdown would wait for ever. They are rolled back, too.
        tokio::select! {
            ended = axum::serve(listener, router) => ended?,
            () = stop => {}
        }
    } else {
        axum::serve(listener, router).with_graceful_shutdown(stop).await?;
    }
    Ok(())
}

async fn overview(State(app): State<App>) -> Result<Json<Overview>, HookError> {
    Ok(Json(books::overview(&app.pool).await?))
}
