//! The books in Redis: a list per account.

use std::time::Duration;

use redis::{
    RedisResult,
    aio::{ConnectionManager, ConnectionManagerConfig},
};

use super::{Failure, Row, account, decode, encode};

/// The number of tries. A row that is appended twice is recognised by its run.
const TRIES: u32 = 3;
/// Longer than the `ttl` of the functions, so that every replay finds its transaction here.
const KEEP: Duration = Duration::from_hours(8 * 24);
/// The number of accounts that are read in one round trip.
const BATCH: usize = 256;

pub(crate) struct Books(ConnectionManager);

impl Books {
    pub(super) async fn open(url: &str) -> RedisResult<Self> {
        let config = ConnectionManagerConfig::new()
            .set_connection_timeout(Some(Duration::from_secs(2)))
            .set_response_timeout(Some(Duration::from_secs(5)))
            .set_number_of_retries(1);
        Ok(Self(ConnectionManager::new_with_config(redis::Client::open(url)?, config).await?))
    }

    pub(super) async fn append(&self, order_id: &str, row: &Row) -> Result<Vec<Row>, Failure> {
        let key = account(order_id);
        let mut append = redis::pipe();
        append.atomic();
        append.cmd("RPUSH").arg(&key).arg(encode(row)?).ignore();
        append.cmd("EXPIRE").arg(&key).arg(KEEP.as_secs()).ignore();
        append.cmd("LRANGE").arg(&key).arg(0).arg(-1);
        let mut tries = 1;
        loop {
            match append.query_async::<(Vec<String>,)>(&mut self.0.clone()).await {
                Ok((rows,)) => return rows.iter().map(|row| decode(row)).collect(),
                Err(error) if tries == TRIES => return Err(error.into()),
                Err(_) => tries += 1,
            }
        }
    }

    pub(super) async fn accounts(&self, orders: &[&str]) -> Result<Vec<Vec<Row>>, Failure> {
        let mut answer = Vec::with_capacity(orders.len());
        for batch in orders.chunks(BATCH) {
            let mut read = redis::pipe();
            for order in batch {
                read.cmd("LRANGE").arg(account(order)).arg(0).arg(-1);
            }
            let accounts: Vec<Vec<String>> = read.query_async(&mut self.0.clone()).await?;
            for rows in accounts {
                answer.push(rows.iter().map(|row| decode(row)).collect::<Result<_, _>>()?);
            }
        }
        Ok(answer)
    }
}
