//! The books in PostgreSQL or SQLite: a row for each account, with a line for each request. Both use the same statements.

use std::time::Duration;

use sqlx::{AnyPool, any::AnyPoolOptions};

use super::{Failure, Row, account, decode, encode};

const CREATE: &str = "CREATE TABLE IF NOT EXISTS payments_bank (account TEXT PRIMARY KEY, requests TEXT NOT NULL)";
/// One statement, under the lock of the account's row: the second request sees the first one.
const APPEND: &str = "INSERT INTO payments_bank (account, requests) VALUES ($1, $2)
    ON CONFLICT (account) DO UPDATE SET requests = payments_bank.requests || excluded.requests
    RETURNING requests";
const READ: &str = "SELECT requests FROM payments_bank WHERE account = $1";

/// The number of tries. A row that is appended twice is recognised by its run.
const TRIES: u32 = 3;

pub(crate) struct Books(AnyPool);

impl Books {
    /// Opens the books: in PostgreSQL in the database of the records; with SQLite in a file beside the records, since a file has
    /// one writer at a time.
    pub(super) async fn open(url: &str) -> sqlx::Result<Self> {
        sqlx::any::install_default_drivers();
        let (url, connections) =
            if url.starts_with("sqlite:") { (format!("{url}.bank?mode=rwc"), 1) } else { (url.to_owned(), 4) };
        let pool = AnyPoolOptions::new().max_connections(connections).acquire_timeout(Duration::from_secs(10));
        let books = Self(pool.connect(&url).await?);
        // Of several processes that create the table at the same time, some get an error.
        let mut tries = 1;
        while let Err(error) = sqlx::query(CREATE).execute(&books.0).await {
            if tries == TRIES {
                return Err(error);
            }
            tries += 1;
        }
        Ok(books)
    }

    pub(super) async fn append(&self, order_id: &str, row: &Row) -> Result<Vec<Row>, Failure> {
        let (account, line) = (account(order_id), encode(row)? + "\n");
        let mut tries = 1;
        loop {
            // `fetch_all`, because SQLite commits after the last row.
            let append = sqlx::query_scalar::<_, String>(APPEND).bind(&account).bind(&line).fetch_all(&self.0);
            match append.await {
                Ok(requests) => return requests.iter().flat_map(|lines| lines.lines()).map(decode).collect(),
                Err(error) if tries == TRIES => return Err(error.into()),
                Err(_) => tries += 1,
            }
        }
    }

    pub(super) async fn accounts(&self, orders: &[&str]) -> Result<Vec<Vec<Row>>, Failure> {
        let mut connection = self.0.acquire().await?;
        let mut answer = Vec::with_capacity(orders.len());
        for order in orders {
            let requests =
                sqlx::query_scalar::<_, String>(READ).bind(account(order)).fetch_all(&mut *connection).await?;
            let rows = requests.iter().flat_map(|lines| lines.lines()).map(decode).collect::<Result<_, _>>()?;
            answer.push(rows);
        }
        Ok(answer)
    }
}
