//! The service's part in the database. This is a file to copy from.
//!
//! This file is compiled twice: with `Db` as `sqlx::Postgres`, and as `sqlx::Sqlite`. In your service, write the one that you use.

use idempotent_runtime::{Idempotency, idempotent, in_transaction};
use sqlx::{Pool, Transaction, query, query_as, query_scalar, raw_sql};

use super::{
    super::{AUDIT, Books, OPENING, Reservation},
    Db, TABLES, connect,
};
use crate::{
    Failure,
    order::{ARTICLES, Order, OrderError},
};

/// Takes pieces out of the stock, once: they, the reservation and the record of the call are committed together, or none of them.
///
/// `store` names the store in the database of `tx`. The records of the other functions may be elsewhere.
#[idempotent(name = "orders.reserve", key = order.id, ttl = "30d", skip(records), store = records, transaction = tx)]
async fn reserve(tx: &mut Transaction<'_, Db>, records: &Idempotency, order: &Order) -> Result<i64, OrderError> {
    const TAKE: &str = "UPDATE stock SET pieces = pieces - $1 WHERE article = $2";
    const NOTE: &str = "INSERT INTO reservations (order_id, article, quantity) VALUES ($1, $2, $3) RETURNING id";
    query(TAKE).bind(order.quantity).bind(order.article).execute(&mut **tx).await?;
    let note = query_scalar(NOTE).bind(order.id.as_str()).bind(order.article).bind(order.quantity);
    Ok(note.fetch_one(&mut **tx).await?)
}

pub(crate) struct Stock {
    pool: Pool<Db>,
    records: Idempotency,
}

impl Stock {
    pub(crate) async fn open(url: &str) -> Result<Self, Failure> {
        let (pool, records) = connect(url).await?;
        let mut tries = 1;
        // Of several processes that create the tables at the same time, one succeeds. The others find them when they try again.
        while let Err(error) = set_up(&pool).await {
            if tries == 3 {
                return Err(error.into());
            }
            tries += 1;
        }
        Ok(Self { pool, records })
    }

    pub(crate) fn records(&self) -> Idempotency {
        self.records.clone()
    }

    pub(crate) async fn reserve(&self, order: &Order) -> Result<i64, OrderError> {
        in_transaction(&self.pool, |tx| Box::pin(reserve(tx.0, &self.records, order))).await
    }

    pub(crate) async fn audit(&self) -> sqlx::Result<(Books, Vec<Reservation>)> {
        let books = query_as(AUDIT).bind(OPENING).fetch_one(&self.pool).await?;
        let reservations = query_as("SELECT id, order_id, article, quantity FROM reservations");
        Ok((books, reservations.fetch_all(&self.pool).await?))
    }
}

async fn set_up(pool: &Pool<Db>) -> sqlx::Result<()> {
    // The tables are created in one transaction, so they are there as a whole or not at all.
    if query("SELECT pieces FROM stock").fetch_all(pool).await.is_ok() {
        return Ok(());
    }
    let mut tx = pool.begin().await?;
    raw_sql(TABLES).execute(&mut *tx).await?;
    for article in 1..=ARTICLES {
        let stock = query("INSERT INTO stock (article, pieces) VALUES ($1, $2)");
        stock.bind(article).bind(OPENING).execute(&mut *tx).await?;
    }
    tx.commit().await
}
