//! The program around the consumers: it sends the messages, kills the consumers, and reads the proof.

use std::{pin::pin, time::Duration};

use indicatif::ProgressBar;
use sqlx::{Pool, query, query_as, raw_sql};
use tokio::time::{Instant, sleep};

use super::{Db, TABLES, broker::Sender, open, service::ORDERS};
use crate::{
    Args, Failure,
    books::{AUDIT, Books},
    brokers::Outbound,
    consumers::Consumers,
    kills::Kills,
    messages::{Fate, Sent, forgeries, orders},
    report::{Run, Summary, progress},
    stop,
};

/// The pause between two looks at the tables.
const LOOK: Duration = Duration::from_millis(50);
/// The time after which a run without progress is given up.
const PATIENCE: Duration = Duration::from_mins(1);
/// The number of messages that are sent together.
const BATCH: usize = 100;

/// Sends the messages, has them worked off, and reads the proof.
pub(crate) async fn run(args: &Args) -> Result<Summary, Failure> {
    let (pool, _) = open(&args.store).await?;
    let mut tries = 1;
    // Of several programs that create the tables at the same time, one succeeds. The others find them when they try again.
    while let Err(error) = set_up(&pool).await {
        if tries == 3 {
            return Err(error.into());
        }
        tries += 1;
    }
    let run = if args.check { Run::default() } else { Box::pin(work(args, &pool)).await? };
    Ok(Summary::new(&run, &audit(&pool).await?))
}

async fn set_up(pool: &Pool<Db>) -> sqlx::Result<()> {
    // The tables are created in one transaction, so they are there as a whole or not at all.
    if query("SELECT copies FROM sent LIMIT 1").fetch_optional(pool).await.is_ok() {
        return Ok(());
    }
    let mut tx = pool.begin().await?;
    raw_sql(TABLES).execute(&mut *tx).await?;
    tx.commit().await
}

async fn audit(pool: &Pool<Db>) -> sqlx::Result<Books> {
    query_as(AUDIT).fetch_one(pool).await
}

/// Works until everything is worked off, a signal comes, or there is no progress.
async fn work(args: &Args, pool: &Pool<Db>) -> Result<Run, Failure> {
    let mut signalled = pin!(stop::signalled()?);
    let sender = Sender::connect(args.broker.as_deref(), pool).await?;
    let (orders, mut forgeries) = (orders(args.seed, args.messages), Some(forgeries(args.seed, args.messages)));
    let expected = expected(&orders) + forgeries.as_ref().map_or(0, Vec::len) as u64;
    let mut kills = Kills::new(args.kill, expected, args.seed);
    let bar = progress(expected, !args.json);
    let mut consumers = Consumers::start(args).await?;
    send(pool, &sender, &orders).await?;
    let mut run = Run { kills: 0, is_unfinished: true };
    let (mut last, mut moved) = (0, Instant::now());
    while moved.elapsed() < PATIENCE {
        tokio::select! {
            () = &mut signalled => break,
            () = sleep(LOOK) => {}
        }
        consumers.revive().await?;
        let (books, waiting) = (audit(pool).await?, sender.waiting().await?);
        if last != books.progress() + waiting {
            (last, moved) = (books.progress() + waiting, Instant::now());
        }
        show(&bar, &books, run.kills);
        if kills.is_due(books.progress()).await {
            consumers.kill().await?;
            run.kills += 1;
        } else if books.lost_orders == 0
            && let Some(forgeries) = forgeries.take()
        {
            // The ids have their records: from now on, other payloads under them are refused.
            send(pool, &sender, &forgeries).await?;
        } else if books.lost() == 0 && books.in_outbox == 0 && waiting == 0 && kills.are_done() {
            // A message that was delivered and is not settled may not count as waiting. It does once its consumer has ended.
            consumers.drain().await?;
            if sender.waiting().await? == 0 {
                bar.finish_and_clear();
                return Ok(Run { is_unfinished: false, ..run });
            }
            consumers = Consumers::start(args).await?;
        }
    }
    bar.finish_and_clear();
    consumers.drain().await?;
    Ok(run)
}

/// The number of effects and dead letters that orders have: two of those that are booked, one of the others.
fn expected(orders: &[Sent]) -> u64 {
    let mut ids: Vec<_> = orders.iter().map(|order| (&order.id, 1 + u64::from(order.fate == Fate::Booked))).collect();
    ids.sort_unstable();
    ids.dedup();
    ids.iter().map(|(_, effects)| effects).sum()
}

fn show(bar: &ProgressBar, books: &Books, kills: u32) {
    bar.set_position(books.progress());
    bar.set_message(format!("{} dead, {} retried, {kills} kills", books.dead, books.retried));
}

/// Sends messages, after they are on the list against which the proof is made.
async fn send(pool: &Pool<Db>, sender: &Sender, messages: &[Sent]) -> Result<(), Failure> {
    const LIST: &str = "INSERT INTO sent (id, fate, cents, copies) VALUES ($1, $2, $3, 1)
        ON CONFLICT (id, fate) DO UPDATE SET copies = sent.copies + 1";
    for batch in messages.chunks(BATCH) {
        let mut tx = pool.begin().await?;
        for message in batch {
            let list = query(LIST).bind(&message.id).bind(message.fate.as_str()).bind(message.cents);
            list.execute(&mut *tx).await?;
        }
        tx.commit().await?;
        let outbound =
            batch.iter().map(|message| Outbound { topic: ORDERS, id: &message.id, payload: &message.payload });
        sender.send(&outbound.collect::<Vec<_>>()).await?;
    }
    Ok(())
}
