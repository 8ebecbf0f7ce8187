//! Runs the clients.

use std::{panic::resume_unwind, time::Duration};

use idempotent_runtime::install;
use sqlx::Pool;
use tokio::{
    task::{JoinError, JoinSet},
    time::{sleep, timeout},
};

use super::{Db, books, open, service::submit};
use crate::{
    Args, Failure,
    crash::Plug,
    load::{Client, Plan},
    tally::{Delivery, Summary, Tally},
    transfer::Transfer,
};

/// The number of clients at a time.
const CLIENTS: usize = 8;

/// The number of tries to read the books, and the pause between them.
const TRIES: u32 = 50;
const PAUSE: Duration = Duration::from_millis(100);

/// Does what the arguments ask for.
pub(crate) async fn run(args: &Args) -> Result<Summary, Failure> {
    let (pool, idempotency) = open(&args.store).await?;
    install(idempotency)?;
    patiently(async || books::set_up(&pool).await).await?;
    let mut tally = if args.check { Tally::default() } else { work(&pool, args).await };
    let mut lost = 0;
    for (transfer, receipt) in tally.made() {
        lost += u64::from(!patiently(async || books::shows(&pool, transfer, receipt).await).await?);
    }
    tally.lost(lost);
    let books = if args.work { None } else { Some(patiently(async || books::audit(&pool).await).await?) };
    Ok(tally.summary(books))
}

/// Repeats a query that fails, since the database may be restarting.
async fn patiently<T>(ask: impl AsyncFn() -> sqlx::Result<T>) -> sqlx::Result<T> {
    let mut tries = 1;
    loop {
        match ask().await {
            Err(_) if tries < TRIES => sleep(PAUSE).await,
            answer => return answer,
        }
        tries += 1;
    }
}

async fn work(pool: &Pool<Db>, args: &Args) -> Tally {
    let (mut tally, mut clients) = (Tally::default(), JoinSet::new());
    let plug = Plug::after(args.crash);
    for number in args.first..args.first.saturating_add(args.transfers) {
        if clients.len() == CLIENTS {
            tally.extend(clients.join_next().await.map(ended));
        }
        clients.spawn(serve(pool.clone(), Plan::new(args.seed, number), plug.clone()));
    }
    while let Some(client) = clients.join_next().await {
        tally.extend([ended(client)]);
    }
    tally
}

/// Takes a client's result. If the client panicked, the program does.
fn ended<T>(client: Result<T, JoinError>) -> T {
    client.unwrap_or_else(|stopped| resume_unwind(stopped.into_panic()))
}

/// Runs one client.
async fn serve(pool: Pool<Db>, plan: Plan, plug: Plug) -> Vec<Delivery> {
    let Plan { transfer, client } = plan;
    let deliver = async |transfer: &Transfer| {
        let answer = plug.run(submit(&pool, transfer)).await;
        Delivery { transfer: transfer.clone(), answer: Some(answer) }
    };
    match client {
        Client::Content => vec![deliver(&transfer).await],
        Client::Repeats(times) => {
            let mut deliveries = vec![deliver(&transfer).await];
            for _ in 0..times {
                deliveries.push(deliver(&transfer).await);
            }
            deliveries
        }
        Client::AsksAtOnce(times) => {
            let mut calls = JoinSet::new();
            for _ in 0..times {
                let (pool, transfer, plug) = (pool.clone(), transfer.clone(), plug.clone());
                calls.spawn(async move {
                    let answer = plug.run(submit(&pool, &transfer)).await;
                    Delivery { transfer, answer: Some(answer) }
                });
            }
            calls.join_all().await
        }
        Client::Leaves { after_ms } => {
            let first = timeout(Duration::from_millis(after_ms), submit(&pool, &transfer));
            match plug.run(first).await.ok() {
                Some(answer) => vec![Delivery { transfer, answer: Some(answer) }],
                None => vec![Delivery { transfer: transfer.clone(), answer: None }, deliver(&transfer).await],
            }
        }
        Client::ReusesId { more_cents } => {
            let first = deliver(&transfer).await;
            let other = Transfer { cents: transfer.cents + more_cents, ..transfer };
            vec![first, deliver(&other).await]
        }
    }
}
