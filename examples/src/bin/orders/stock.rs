//! The stock, in the SQL database of either kind.

mod postgres;
mod sqlite;

use idempotent_runtime::Idempotency;
use serde::Serialize;
use sqlx::FromRow;

use crate::{
    Failure,
    order::{Order, OrderError},
};

/// The number of each article that is there at the start.
const OPENING: i64 = 1_000_000;
const AUDIT: &str = include_str!("stock/audit.sql");

pub(crate) enum Stock {
    Sqlite(sqlite::Stock),
    Postgres(postgres::Stock),
}

/// The findings of `audit.sql`.
#[derive(Default, Serialize, FromRow)]
pub(crate) struct Books {
    /// Articles of which more or less is missing than was reserved.
    pub(crate) off_stock: i64,
    /// Orders with more than one reservation.
    pub(crate) reserved_twice: i64,
}

/// A reservation.
#[derive(FromRow)]
pub(crate) struct Reservation {
    pub(crate) id: i64,
    pub(crate) order_id: String,
    pub(crate) article: i64,
    pub(crate) quantity: i64,
}

impl Stock {
    pub(crate) async fn open(url: &str) -> Result<Self, Failure> {
        Ok(if url.starts_with("sqlite:") {
            Self::Sqlite(sqlite::Stock::open(url).await?)
        } else {
            Self::Postgres(postgres::Stock::open(url).await?)
        })
    }

    /// The store of the records that are in the same database.
    pub(crate) fn records(&self) -> Idempotency {
        match self {
            Self::Sqlite(stock) => stock.records(),
            Self::Postgres(stock) => stock.records(),
        }
    }

    /// Reserves what was ordered, and answers with the number of the reservation.
    pub(crate) async fn reserve(&self, order: &Order) -> Result<i64, OrderError> {
        match self {
            Self::Sqlite(stock) => stock.reserve(order).await,
            Self::Postgres(stock) => stock.reserve(order).await,
        }
    }

    pub(crate) async fn audit(&self) -> sqlx::Result<(Books, Vec<Reservation>)> {
        match self {
            Self::Sqlite(stock) => stock.audit().await,
            Self::Postgres(stock) => stock.audit().await,
        }
    }
}
