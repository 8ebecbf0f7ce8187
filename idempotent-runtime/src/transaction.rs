//! A transaction from its begin to its commit.

use std::{future::Future, io::ErrorKind, marker::PhantomData, time::Duration};

use sqlx::{Database, Pool, Transaction};
use tokio::time::{Instant, sleep, timeout};

use crate::{
    engine::{
        begin,
        scope::{Scope, TransactionEnd, TransactionEndCell},
    },
    error::Error,
    store::{BoxFuture, StoreError, transactional::Connection},
};

/// The time after which a transaction is not tried again.
const TRY_FOR: Duration = Duration::from_secs(10);
/// The time within which the database has to answer a commit.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// The longest pause between two tries.
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// Begins a transaction, calls an idempotent function in it, and commits: once, whatever gets lost in between.
///
/// - An `Err` that the function keeps is committed as well: the record, without the body's effects. Any other `Err` rolls back.
/// - If the store could not do its part, the database could not serialize the commit, or its reply was lost, a new transaction is
///   begun. The function then replays what was committed, or runs again, so that what it does outside the database needs a key of
///   its own ([`child_key`](crate::Execution::child_key)). This ends after 10 seconds. An error of the function's own statements is
///   its to answer with, also where a new transaction might succeed.
///
/// Call one function in it, and write everything that belongs to its effects inside that function: what stands beside the
/// call is repeated with it, and committed with an error that the function keeps.
///
/// ```no_run
/// # use idempotent_runtime::{Error, idempotent};
/// # #[derive(Debug, serde::Serialize, serde::Deserialize)] enum TransferError { Declined, #[serde(skip)] Sql, #[serde(skip)] Idempotency(Error) }
/// # impl From<sqlx::Error> for TransferError { fn from(_: sqlx::Error) -> Self { Self::Sql } }
/// # impl From<Error> for TransferError { fn from(error: Error) -> Self { Self::Idempotency(error) } }
/// # #[cfg(all(feature = "macros", feature = "postgres"))] mod example {
/// # use super::TransferError;
/// # use idempotent_runtime::{Error, idempotent};
/// use idempotent_runtime::in_transaction;
/// use sqlx::{PgPool, Postgres, Transaction};
///
/// #[idempotent(name = "accounts.deposit", key = id, errors = keep, transaction = tx)]
/// async fn deposit(tx: &mut Transaction<'_, Postgres>, id: &str, cents: i64) -> Result<i64, TransferError> {
///     if cents > 100_000 { Err(TransferError::Declined) } else { Ok(cents) }
/// }
///
/// async fn handle(pool: &PgPool, id: &str) -> Result<i64, TransferError> {
///     in_transaction(pool, |tx| Box::pin(deposit(tx.0, id, 500))).await
/// }
/// # }
/// # fn main() {}
/// ```
///
/// # Errors
///
/// The function's own, and [`Error::Store`] if the transaction could not be begun or committed.
///
/// # Panics
///
/// If the function does, and on a Tokio runtime without timers.
///
/// # Cancel safety
///
/// Dropped, the transaction is rolled back, or has been committed with its record: a repeat finds out.
pub async fn in_transaction<'a, DB, T, E>(
    pool: &Pool<DB>,
    mut call: impl for<'t> FnMut(InTransaction<'t, 'a, DB>) -> BoxFuture<'t, Result<T, E>>,
) -> Result<T, E>
where
    DB: TransactionDatabase,
    E: From<Error>,
{
    let deadline = Instant::now() + TRY_FOR;
    let mut pause = Duration::from_millis(5);
    loop {
        let fault = match attempt(pool, &mut call).await {
            Ok(answer) => return answer,
            Err(fault) => fault,
        };
        let is_over = Instant::now() + pause >= deadline;
        match fault {
            Fault::OfCall(answer) if is_over => return answer,
            Fault::OfTransaction(error, passes) if is_over || !passes || !error.is_retryable() => {
                return Err(Error::Store(error).into());
            }
            Fault::OfCall(_) | Fault::OfTransaction(..) => {}
        }
        sleep(pause.mul_f64(1.0 - rand::random::<f64>() / 2.0)).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// The transaction that [`in_transaction`], [`Call::commit`](crate::Call::commit) or an inbox has begun: its field is the
/// function's argument.
#[derive(Debug)]
pub struct InTransaction<'t, 'a, DB: Database>(
    /// The transaction. To commit it, or to roll it back, is not the function's.
    pub &'t mut Transaction<'static, DB>,
    // `'t` ends before `'a`: so the function may borrow what lives for `'a`.
    PhantomData<&'t &'a ()>,
);

impl<'t, DB: Database> InTransaction<'t, '_, DB> {
    pub(crate) const fn of(transaction: &'t mut Transaction<'static, DB>) -> Self {
        Self(transaction, PhantomData)
    }
}

/// The reason why a transaction may be tried again.
enum Fault<R> {
    /// The store failed inside; this is what the function answered.
    OfCall(R),
    /// It could not be begun or committed; true if the error may not be met again.
    OfTransaction(StoreError, bool),
}

async fn attempt<'a, DB, T, E>(
    pool: &Pool<DB>,
    call: &mut impl for<'t> FnMut(InTransaction<'t, 'a, DB>) -> BoxFuture<'t, Result<T, E>>,
) -> Result<Result<T, E>, Fault<Result<T, E>>>
where
    DB: TransactionDatabase,
{
    let mut transaction = begin(pool, DB::BEGIN).await.map_err(of_transaction::<DB, _>)?;
    let end = TransactionEndCell::default();
    let answer = Scope::in_transaction(end.clone()).around(call(InTransaction::of(&mut transaction))).await;
    match (&answer, end.get()) {
        (Ok(_), _) | (Err(_), TransactionEnd::Recorded) => {
            in_time(DB::check(&mut transaction)).await.map_err(of_transaction::<DB, _>)?;
            in_time(transaction.commit()).await.map_err(of_transaction::<DB, _>)?;
            #[cfg(feature = "outbox")]
            crate::outbox::committed();
            Ok(answer)
        }
        (Err(_), end) => {
            // If it fails, the connection is closed, which rolls back, too.
            let _ = in_time(transaction.rollback()).await;
            if end == TransactionEnd::TryAgain { Err(Fault::OfCall(answer)) } else { Ok(answer) }
        }
    }
}

/// Waits for an answer of the database, but not for one that a broken network swallows.
pub(crate) async fn in_time<T>(answer: impl Future<Output = sqlx::Result<T>>) -> sqlx::Result<T> {
    timeout(ANSWER_WITHIN, answer).await.unwrap_or_else(|_| Err(std::io::Error::from(ErrorKind::TimedOut).into()))
}

/// An error that another try may not meet is worth one: a broken connection, a conflict, a server that is busy or shuts
/// down. The others would only repeat the function.
fn of_transaction<DB: TransactionDatabase, R>(error: sqlx::Error) -> Fault<R> {
    let passes = match &error {
        sqlx::Error::Database(error) => error.code().is_some_and(|code| DB::passes(&code)),
        _ => true,
    };
    let fault = DB::fault(error);
    Fault::OfTransaction(fault, passes)
}

/// A database whose transactions [`in_transaction`] begins: PostgreSQL and SQLite.
pub trait TransactionDatabase: Database + sealed::Sealed {
    #[doc(hidden)]
    const BEGIN: &'static str;
    /// Begins the transaction of a run that is claimed already.
    #[doc(hidden)]
    const BEGIN_RUN: &'static str;
    #[doc(hidden)]
    fn connection<'t>(transaction: &'t mut Transaction<'static, Self>) -> Connection<'t>;
    /// Fails where a commit would be a rollback without a word.
    #[doc(hidden)]
    fn check<'t>(transaction: &'t mut Transaction<'static, Self>) -> BoxFuture<'t, sqlx::Result<()>>;
    /// Makes sure that a rollback is answered as one, whatever the function has done to its transaction.
    #[doc(hidden)]
    fn before_rollback<'t>(transaction: &'t mut Transaction<'static, Self>) -> BoxFuture<'t, ()> {
        let _ = transaction;
        Box::pin(std::future::ready(()))
    }
    /// True for codes of errors that another try may not meet.
    #[doc(hidden)]
    fn passes(code: &str) -> bool;
    #[doc(hidden)]
    fn fault(error: sqlx::Error) -> StoreError;
}

mod sealed {
    pub trait Sealed {}
}

#[cfg(feature = "postgres")]
impl sealed::Sealed for sqlx::Postgres {}

#[cfg(feature = "postgres")]
impl TransactionDatabase for sqlx::Postgres {
    const BEGIN: &'static str = "BEGIN";
    /// Above READ COMMITTED, the end of the run would not see what a renewal has written meanwhile. The setting is gone when
    /// the transaction is.
    const BEGIN_RUN: &'static str =
        "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; SET LOCAL idempotent.run = 'begun'";
    fn connection<'t>(transaction: &'t mut Transaction<'static, Self>) -> Connection<'t> {
        &mut **transaction
    }
    /// `COMMIT` of a transaction that has failed rolls back, and is answered as a success.
    fn check<'t>(transaction: &'t mut Transaction<'static, Self>) -> BoxFuture<'t, sqlx::Result<()>> {
        Box::pin(async { sqlx::Executor::execute(&mut **transaction, "SELECT 1").await.map(drop) })
    }
    /// Connection exceptions, rollbacks, insufficient resources, interventions of an operator:
    /// <https://www.postgresql.org/docs/current/errcodes-appendix.html>
    fn passes(code: &str) -> bool {
        matches!(code.get(..2), Some("08" | "40" | "53" | "57")) || code == "55P03"
    }
    fn fault(error: sqlx::Error) -> StoreError {
        crate::store::postgres::fault::store_error(error)
    }
}

#[cfg(feature = "sqlite")]
impl sealed::Sealed for sqlx::Sqlite {}

#[cfg(feature = "sqlite")]
impl TransactionDatabase for sqlx::Sqlite {
    /// Takes the file's write lock at once: a transaction that reads first may be unable to write later.
    const BEGIN: &'static str = "BEGIN IMMEDIATE";
    const BEGIN_RUN: &'static str = crate::store::sqlite::transaction::BEGIN_RUN;
    fn connection<'t>(transaction: &'t mut Transaction<'static, Self>) -> Connection<'t> {
        &mut **transaction
    }
    fn check<'t>(_: &'t mut Transaction<'static, Self>) -> BoxFuture<'t, sqlx::Result<()>> {
        Box::pin(std::future::ready(Ok(())))
    }
    /// After a `ROLLBACK` of the function's own, sqlx's fails, and the connection goes back to the pool as one that is in a
    /// transaction: it can begin no other.
    fn before_rollback<'t>(transaction: &'t mut Transaction<'static, Self>) -> BoxFuture<'t, ()> {
        Box::pin(async {
            // Within a transaction it fails, and changes nothing.
            let _ = sqlx::Executor::execute(&mut **transaction, "BEGIN").await;
        })
    }
    /// `SQLITE_BUSY` and `SQLITE_LOCKED`, with their extended codes: <https://www.sqlite.org/rescode.html>
    fn passes(code: &str) -> bool {
        code.parse::<u32>().is_ok_and(|code| matches!(code & 0xFF, 5 | 6))
    }
    fn fault(error: sqlx::Error) -> StoreError {
        crate::store::sqlite::fault::store_error(&error)
    }
}
