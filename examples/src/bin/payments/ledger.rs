//! The bank's books: an account per order, to which every request is appended.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use redis::{RedisResult, aio::ConnectionManager, aio::ConnectionManagerConfig};
use serde::{Deserialize, Serialize};

use crate::log::Kind;

/// A request to the bank.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) kind: Kind,
    /// The run of the function that made it.
    pub(crate) run: String,
    /// The downstream key: requests with the same one are the same request.
    pub(crate) bank_key: String,
    pub(crate) attempt: u32,
    /// Rises from claim to claim of the key: the order of the runs, even if a paused one gets here late.
    pub(crate) fence: u64,
    pub(crate) amount_cents: u64,
    pub(crate) currency: String,
    /// The answer, where the key is new to the bank.
    pub(crate) answer: Answer,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Answer {
    Approved,
    Declined,
    Unavailable,
}

impl Row {
    /// The bank's name for the movement of money.
    pub(crate) fn transaction(&self) -> String {
        format!("tx-{}", self.run)
    }
}

/// The request that decided for its key: the first that the bank was there to answer. The later ones are repeats.
pub(crate) fn settled<'a>(rows: &'a [Row], bank_key: &str) -> Option<&'a Row> {
    rows.iter().find(|row| row.bank_key == bank_key && row.answer != Answer::Unavailable)
}

/// Where the books are kept: beside the idempotency records, so that all processes on one store have one bank.
pub(crate) enum Ledger {
    Memory(Mutex<HashMap<String, Vec<Row>>>),
    Redis(ConnectionManager),
}

/// How often Redis is asked. A row that is appended twice is told by its run.
const TRIES: u32 = 3;
/// Longer than the services keep their results: a replay finds its transaction here.
const KEEP: Duration = Duration::from_secs(8 * 24 * 60 * 60);
/// How many accounts are read in one round trip.
const BATCH: usize = 256;

impl Ledger {
    pub(crate) fn memory() -> Self {
        Self::Memory(Mutex::default())
    }

    pub(crate) async fn redis(url: &str) -> RedisResult<Self> {
        let config = ConnectionManagerConfig::new()
            .set_connection_timeout(Some(Duration::from_secs(2)))
            .set_response_timeout(Some(Duration::from_secs(5)))
            .set_number_of_retries(1);
        let connection = ConnectionManager::new_with_config(redis::Client::open(url)?, config).await?;
        Ok(Self::Redis(connection))
    }

    /// Appends to an order's account, and answers the account.
    pub(crate) async fn append(&self, order_id: &str, row: Row) -> RedisResult<Vec<Row>> {
        let connection = match self {
            Self::Memory(accounts) => {
                let mut accounts = accounts.lock().unwrap_or_else(PoisonError::into_inner);
                let rows = accounts.entry(order_id.to_owned()).or_default();
                rows.push(row);
                return Ok(rows.clone());
            }
            Self::Redis(connection) => connection,
        };
        let key = account(order_id);
        let mut append = redis::pipe();
        append.atomic();
        append.cmd("RPUSH").arg(&key).arg(encode(&row)?).ignore();
        append.cmd("EXPIRE").arg(&key).arg(KEEP.as_secs()).ignore();
        append.cmd("LRANGE").arg(&key).arg(0).arg(-1);
        let mut tries = 1;
        loop {
            match append.query_async::<(Vec<String>,)>(&mut connection.clone()).await {
                Ok((rows,)) => return rows.iter().map(|row| decode(row)).collect(),
                Err(error) if tries == TRIES => return Err(error),
                Err(_) => tries += 1,
            }
        }
    }

    /// The accounts of these orders, in their order.
    pub(crate) async fn accounts(&self, orders: &[&str]) -> RedisResult<Vec<Vec<Row>>> {
        let connection = match self {
            Self::Memory(accounts) => {
                let accounts = accounts.lock().unwrap_or_else(PoisonError::into_inner);
                return Ok(orders.iter().map(|order| accounts.get(*order).cloned().unwrap_or_default()).collect());
            }
            Self::Redis(connection) => connection,
        };
        let mut answer = Vec::with_capacity(orders.len());
        for batch in orders.chunks(BATCH) {
            let mut read = redis::pipe();
            for order in batch {
                read.cmd("LRANGE").arg(account(order)).arg(0).arg(-1);
            }
            let accounts: Vec<Vec<String>> = read.query_async(&mut connection.clone()).await?;
            for rows in accounts {
                answer.push(rows.iter().map(|row| decode(row)).collect::<RedisResult<_>>()?);
            }
        }
        Ok(answer)
    }
}

fn account(order_id: &str) -> String {
    format!("payments-bank:{order_id}")
}

fn encode(row: &Row) -> RedisResult<String> {
    serde_json::to_string(row).map_err(|_| (redis::ErrorKind::Client, "a row cannot be written").into())
}

fn decode(row: &str) -> RedisResult<Row> {
    serde_json::from_str(row)
        .map_err(|_| (redis::ErrorKind::Client, "an account holds something else than rows").into())
}
