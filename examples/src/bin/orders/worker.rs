//! A process of the service, which may be killed at any time. It takes orders from standard input, and answers on standard output.

use std::{io, sync::Arc};

use idempotent_examples::{chain, print};
use idempotent_runtime::with_disposition;
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    task::JoinSet,
};

use crate::{
    Args, Failure,
    order::{Confirmation, Order},
    service::place,
    shop::Shop,
};

/// A message of a worker: a line of JSON.
#[derive(Serialize, Deserialize)]
pub(crate) enum Said {
    /// It can be given orders.
    Ready,
    /// The order with this number is placed, now or earlier.
    Placed { number: u64, confirmation: Confirmation, ran: bool },
    /// It is not, and the same order may succeed later.
    Later { number: u64, after_ms: u64, why: String },
    /// It never will be.
    Failed { number: u64, why: String },
}

/// Works until standard input ends, which it does with the supervisor.
pub(crate) async fn work(args: &Args, outside: &str) -> Result<(), Failure> {
    let shop = Arc::new(Shop::open(args, outside).await?);
    tell(&Said::Ready)?;
    let (mut lines, mut orders) = (BufReader::new(tokio::io::stdin()).lines(), JoinSet::new());
    while let Some(line) = lines.next_line().await? {
        let (number, shop, seed) = (line.parse()?, Arc::clone(&shop), args.seed);
        orders.spawn(async move { tell(&answer(&shop, seed, number).await) });
        while orders.try_join_next().is_some() {}
    }
    Ok(())
}

async fn answer(shop: &Shop, seed: u64, number: u64) -> Said {
    let order = Order::new(seed, number);
    let (answer, disposition) = with_disposition(place(shop, &order)).await;
    match answer {
        Ok(confirmation) => Said::Placed { number, confirmation, ran: disposition.ran() },
        Err(error) => match error.retry_after() {
            Some(after) => {
                let after_ms = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
                Said::Later { number, after_ms, why: chain(&error) }
            }
            None => Said::Failed { number, why: chain(&error) },
        },
    }
}

fn tell(said: &Said) -> io::Result<()> {
    print(&(serde_json::to_string(said)? + "\n"))
}
