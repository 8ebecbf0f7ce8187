//! The bank's books: an account for each order, to which every request is appended.

mod redis;
mod sql;

use std::{
    collections::HashMap,
    error::Error,
    sync::{Mutex, PoisonError},
};

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
    /// Rises from claim to claim of the key. It gives the order of the runs, even if a paused one arrives late.
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

/// The request that decides for its key: the first one that the bank answered. The later ones are repeats.
pub(crate) fn settled<'a>(rows: &'a [Row], bank_key: &str) -> Option<&'a Row> {
    rows.iter().find(|row| row.bank_key == bank_key && row.answer != Answer::Unavailable)
}

pub(crate) type Failure = Box<dyn Error + Send + Sync>;

/// The store of the books. It is beside the idempotency records, so that all processes on one store share one bank.
pub(crate) enum Ledger {
    Memory(Mutex<HashMap<String, Vec<Row>>>),
    Redis(redis::Books),
    Sql(sql::Books),
}

impl Ledger {
    pub(crate) fn memory() -> Self {
        Self::Memory(Mutex::default())
    }

    pub(crate) async fn redis(url: &str) -> Result<Self, Failure> {
        Ok(Self::Redis(redis::Books::open(url).await?))
    }

    pub(crate) async fn sql(url: &str) -> Result<Self, Failure> {
        Ok(Self::Sql(sql::Books::open(url).await?))
    }

    /// Appends a row to an order's account, and returns the account.
    pub(crate) async fn append(&self, order_id: &str, row: Row) -> Result<Vec<Row>, Failure> {
        match self {
            Self::Memory(accounts) => {
                let mut accounts = accounts.lock().unwrap_or_else(PoisonError::into_inner);
                let rows = accounts.entry(order_id.to_owned()).or_default();
                rows.push(row);
                Ok(rows.clone())
            }
            Self::Redis(books) => books.append(order_id, &row).await,
            Self::Sql(books) => books.append(order_id, &row).await,
        }
    }

    /// The accounts of these orders, in their order.
    pub(crate) async fn accounts(&self, orders: &[&str]) -> Result<Vec<Vec<Row>>, Failure> {
        match self {
            Self::Memory(accounts) => {
                let accounts = accounts.lock().unwrap_or_else(PoisonError::into_inner);
                Ok(orders.iter().map(|order| accounts.get(*order).cloned().unwrap_or_default()).collect())
            }
            Self::Redis(books) => books.accounts(orders).await,
            Self::Sql(books) => books.accounts(orders).await,
        }
    }
}

fn account(order_id: &str) -> String {
    format!("payments-bank:{order_id}")
}

fn encode(row: &Row) -> Result<String, Failure> {
    serde_json::to_string(row).map_err(|_| "a row cannot be written".into())
}

fn decode(row: &str) -> Result<Row, Failure> {
    serde_json::from_str(row).map_err(|_| "an account holds something else than rows".into())
}
