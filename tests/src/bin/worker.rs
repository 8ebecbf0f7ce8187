//! A process that makes idempotent calls, for tests that need more than one or that kill one. See [`worker`].

use std::io::Write as _;

use idempotent_runtime::{Error, Idempotency, idempotent, with_disposition};
use idempotent_tests::worker::{self, Answer, Plan, Report};
use redis::{AsyncConnectionConfig, aio::MultiplexedConnection};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    task::JoinSet,
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let plan = std::env::args().nth(1).ok_or("a plan is missing")?;
    let plan: Plan = serde_json::from_str(&plan)?;
    let idempotency = Idempotency::connect(&plan.url).await?;
    let ledger = connect(&plan.url).await?;

    say("ready")?;
    BufReader::new(tokio::io::stdin()).read_line(&mut String::new()).await?;

    let mut calls = JoinSet::new();
    for _ in 0..plan.calls {
        let (plan, idempotency, ledger) = (plan.clone(), idempotency.clone(), ledger.clone());
        calls.spawn(async move {
            let call = charge(&idempotency, ledger, plan.hold, &plan.order, plan.amount);
            let (result, disposition) = with_disposition(call).await;
            let result = result.map_err(|failure| failure.0.to_owned());
            Answer { result, disposition: disposition.to_string() }
        });
    }
    let answers = calls.join_all().await;
    say(&serde_json::to_string(&Report { answers })?)?;
    Ok(())
}

/// The code of an error of the library, or of the ledger.
struct Failure(&'static str);

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self(error.code())
    }
}

impl From<redis::RedisError> for Failure {
    fn from(_: redis::RedisError) -> Self {
        Self("ledger")
    }
}

/// Its effect is to count.
#[idempotent(name = "worker.charge", key = order, store = idempotency, skip(idempotency, ledger, hold))]
async fn charge(
    idempotency: &Idempotency,
    mut ledger: MultiplexedConnection,
    hold: bool,
    order: &str,
    amount: u64,
) -> Result<u64, Failure> {
    let count = redis::cmd("INCRBY").arg(worker::effects(order)).arg(amount).query_async(&mut ledger).await?;
    if hold {
        redis::cmd("BLPOP").arg(worker::gate(order)).arg(0).exec_async(&mut ledger).await?;
    }
    Ok(count)
}

/// A connection that may be silent for as long as a body is held.
async fn connect(url: &str) -> redis::RedisResult<MultiplexedConnection> {
    let config = AsyncConnectionConfig::new().set_response_timeout(None);
    redis::Client::open(url)?.get_multiplexed_async_connection_with_config(&config).await
}

fn say(line: &str) -> std::io::Result<()> {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{line}")?;
    stdout.flush()
}
