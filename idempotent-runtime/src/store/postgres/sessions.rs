//! Poolers that share sessions between their clients.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    task::Poll,
    time::Duration,
};

use sqlx::{Connection as _, Error, PgConnection, Row as _};
use tokio::time::timeout;

/// The number of times that both connections are asked.
///
/// With two sessions that other clients keep busy, a pooler gives each connection the one that it had before with a chance
/// of one half a time: 2⁻¹⁶ that nothing is seen. With more sessions it is less.
const ROUNDS: usize = 16;

/// Tells whether a pooler gives the sessions of connections to other clients between two transactions, as `PgBouncer`
/// does with `pool_mode = transaction`.
///
/// A session of our own is one process of the server for as long as the connection lives, and no other connection's.
/// Where sessions are shared, two connections have the same process one after the other, unless each finds the session
/// that it had before, time after time. So both are in transactions at the same time, which end in one order and begin in
/// this one and in the other: a pooler that gives the session which came back last, or first, exchanges them.
pub(super) async fn are_shared(
    first: &mut PgConnection,
    second: &mut PgConnection,
    patience: Duration,
) -> Result<bool, Error> {
    let (ours, theirs) = (timed(patience, process(first)).await?, timed(patience, process(second)).await?);
    // Not in transactions yet: the second would wait for the only session of a pool, and the first has it.
    if ours == theirs
        || timed(patience, process(first)).await? != ours
        || timed(patience, process(second)).await? != theirs
    {
        return Ok(true);
    }
    for round in 0..ROUNDS {
        let began = if round % 2 == 0 {
            timed(patience, both(BEGIN, first, second)).await
        } else {
            timed(patience, both(BEGIN, second, first)).await.map(|(theirs, ours)| (ours, theirs))
        };
        match began {
            Ok(processes) if processes == (ours, theirs) => {}
            Ok(_) => return Ok(true),
            // With `pool_mode = statement`.
            Err(Error::Database(error)) if error.message().starts_with("transaction blocks not allowed") => {
                return Ok(true);
            }
            Err(error) => return Err(error),
        }
        timed(patience, both("COMMIT; SELECT pg_backend_pid()", first, second)).await?;
    }
    Ok(false)
}

const BEGIN: &str = "BEGIN; SELECT pg_backend_pid()";

/// Asks both at the same time, the first one first.
async fn both(sql: &'static str, first: &mut PgConnection, second: &mut PgConnection) -> Result<(i32, i32), Error> {
    let (mut first, mut second) = (pin!(ask(sql, first)), pin!(ask(sql, second)));
    let mut answers = (None, None);
    poll_fn(|cx| {
        for (answer, asked) in [(&mut answers.0, first.as_mut()), (&mut answers.1, second.as_mut())] {
            if answer.is_none()
                && let Poll::Ready(process) = asked.poll(cx)
            {
                *answer = Some(process?);
            }
        }
        match answers {
            (Some(first), Some(second)) => Poll::Ready(Ok((first, second))),
            _ => Poll::Pending,
        }
    })
    .await
}

/// The process that serves a connection now.
async fn process(connection: &mut PgConnection) -> Result<i32, Error> {
    ask("SELECT pg_backend_pid()", connection).await
}

/// Not prepared: where sessions are shared, the statement may be gone by its second use.
async fn ask(sql: &'static str, connection: &mut PgConnection) -> Result<i32, Error> {
    sqlx::raw_sql(sql).fetch_one(connection).await?.try_get(0)
}

async fn timed<T>(patience: Duration, answer: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    timeout(patience, answer).await.unwrap_or(Err(Error::PoolTimedOut))
}

/// Ends a connection, and does not wait longer for its end than for its answers.
pub(super) async fn close(connection: PgConnection, patience: Duration) {
    let _ = timeout(patience, connection.close()).await;
}
