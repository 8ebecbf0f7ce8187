//! Records that need somebody, and some traffic beside them.

use std::{fmt, future::pending, time::Duration};

use idempotent_runtime::{Error, Idempotency, idempotent};
use serde::{Deserialize, Serialize};
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};

/// The time after which a caller of a silent bank gives up.
const PATIENCE: Duration = Duration::from_millis(50);
/// The pause between two calls of the traffic.
const PAUSE: Duration = Duration::from_millis(400);

tokio::task_local! {
    static REQUEST: String;
}

/// Each record says this of its caller.
pub(crate) fn caller() -> Option<String> {
    REQUEST.try_with(Clone::clone).ok()
}

/// The behaviour of the other side.
#[derive(Clone, Copy)]
enum Other {
    Answers,
    IsDown,
    IsSilent,
}

impl Other {
    async fn ask(self) -> Result<(), Failed> {
        match self {
            Self::Answers => Ok(()),
            Self::IsDown => Err(Failed::IsDown),
            Self::IsSilent => pending().await,
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
enum Failed {
    Declined,
    IsDown,
    #[serde(skip)]
    Call(Error),
}

impl Failed {
    const fn is_final(&self) -> bool {
        matches!(self, Self::Declined)
    }
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self::Call(error)
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Declined => f.write_str("the card is declined"),
            Self::IsDown => f.write_str("the other side is down"),
            Self::Call(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Failed {}

/// Once its run has vanished, nobody knows whether the card was charged, and nobody charges it again.
#[idempotent(
    name = "demo.charge",
    key = order,
    abandoned = refuse,
    errors = Failed::is_final,
    store = idempotency,
    skip(idempotency, bank)
)]
async fn charge(idempotency: &Idempotency, bank: Other, order: &str, amount_cents: u64) -> Result<String, Failed> {
    bank.ask().await?;
    if amount_cents > 9_000 { Err(Failed::Declined) } else { Ok(format!("debited {amount_cents} for {order}")) }
}

/// Tried twice, and then left to somebody.
#[idempotent(name = "demo.mail", key = message, max_attempts = 2, store = idempotency, skip(idempotency, server))]
async fn mail(idempotency: &Idempotency, server: Other, message: &str) -> Result<(), Failed> {
    server.ask().await
}

/// Takes its time.
#[idempotent(name = "demo.report", key = month, wait = "0s", store = idempotency, skip(idempotency, archive))]
async fn report(idempotency: &Idempotency, archive: Other, month: &str) -> Result<(), Failed> {
    archive.ask().await
}

/// Makes the records, and begins the traffic, which ends when the set is dropped.
pub(crate) async fn begin(idempotency: &Idempotency) -> Result<JoinSet<()>, Error> {
    for number in 1..=3 {
        let order = format!("order-{number:04}");
        let charged = charge(idempotency, Other::IsSilent, &order, 4_200 + number);
        // Its caller gives up in the middle of it. Where the program has run before, the call is refused.
        let told = timeout(PATIENCE, REQUEST.scope(format!("request {number} of the shop"), charged)).await;
        passed(told.unwrap_or_else(|_| Ok(String::new())))?;
    }
    for number in 1..=2 {
        for _ in 0..3 {
            passed(mail(idempotency, Other::IsDown, &format!("mail-{number}")).await)?;
        }
    }
    let mut traffic = JoinSet::new();
    let handle = idempotency.clone();
    traffic.spawn(async move { drop(report(&handle, Other::IsSilent, "2026-11").await) });
    traffic.spawn(orders(idempotency.clone()));
    Ok(traffic)
}

/// Passes a fault of the store on: every other answer is part of the demonstration.
fn passed<T>(told: Result<T, Failed>) -> Result<(), Error> {
    match told {
        Err(Failed::Call(error @ Error::Store(_))) => Err(error),
        _ => Ok(()),
    }
}

/// Orders that come once or more than once, some of them with another amount.
async fn orders(idempotency: Idempotency) {
    loop {
        let (order, is_other) = (rand::random_range(1_000..1_200), rand::random_ratio(1, 12));
        let amount_cents = order * 8 + u64::from(is_other);
        drop(charge(&idempotency, Other::Answers, &format!("order-{order}"), amount_cents).await);
        sleep(PAUSE).await;
    }
}
