//! The service: a function that moves money, and the calls of it. This is the file to copy from.
//!
//! This file is compiled twice: with `Db` as `sqlx::Postgres`, and as `sqlx::Sqlite`. In your service, write the one that you use.

use std::time::Duration;

use idempotent_runtime::{Disposition, idempotent, with_disposition};
use sqlx::{Pool, Transaction, query_scalar};
use tokio::time::{Instant, sleep};

use super::Db;
use crate::transfer::{Answer, Receipt, Transfer, TransferError};

const MOVE: &str = "UPDATE accounts SET balance_cents = balance_cents + $1 WHERE id = $2 RETURNING balance_cents";
const POST: &str = "INSERT INTO ledger (transfer_id, account_id, cents) VALUES ($1, $2, $3) RETURNING id";

/// Moves money once, however often it is called: two balances, two entries in the ledger and the record of the call are
/// committed together, or none of them.
///
/// An `Err` rolls back what the body has written, whatever the caller does next: a transfer that is refused leaves nothing but
/// its record.
#[idempotent(
    name = "transfers.transfer",
    key = request.id,
    ttl = "30d",
    transaction = tx,
    errors = TransferError::is_final
)]
pub(crate) async fn transfer(tx: &mut Transaction<'_, Db>, request: &Transfer) -> Result<Receipt, TransferError> {
    let mut changes = [(request.from, -request.cents), (request.to, request.cents)];
    // All transfers lock accounts in the same order, so that no two of them wait for each other.
    changes.sort_unstable();
    let mut receipt = Receipt { entry: 0, balance_cents: 0 };
    for (account, cents) in changes {
        let balance = query_scalar(MOVE).bind(cents).bind(account).fetch_optional(&mut **tx).await?;
        let balance_cents: i64 = balance.ok_or(TransferError::NoSuchAccount)?;
        if balance_cents < 0 {
            return Err(TransferError::InsufficientFunds);
        }
        let entry: i64 =
            query_scalar(POST).bind(request.id.as_str()).bind(account).bind(cents).fetch_one(&mut **tx).await?;
        if account == request.from {
            receipt = Receipt { entry, balance_cents };
        }
    }
    Ok(receipt)
}

/// Tries once: begins, calls, commits.
///
/// # Errors
///
/// Those of [`transfer`], and [`TransferError::Commit`]. After an error that is not [final](TransferError::is_final), nothing was
/// written; but a commit that failed may have been applied all the same.
async fn attempt(pool: &Pool<Db>, request: &Transfer) -> (Result<Receipt, TransferError>, Disposition) {
    let mut tx = match pool.begin().await {
        Ok(tx) => tx,
        Err(error) => return (Err(error.into()), Disposition::NotCalled),
    };
    let (answer, disposition) = with_disposition(transfer(&mut tx, request)).await;
    // A refusal has a record, which has to be committed as well.
    if answer.as_ref().is_err_and(|error| !error.is_final()) {
        return (answer, disposition);
    }
    match tx.commit().await {
        Ok(()) => (answer, disposition),
        Err(error) => {
            let receipt = answer.ok().filter(|_| disposition.ran());
            (Err(TransferError::Commit(error, receipt)), disposition)
        }
    }
}

/// The time for which a request is tried.
const PATIENCE: Duration = Duration::from_mins(1);

/// Tries, each time in a new transaction, until there is an answer or patience ends.
///
/// A retry needs no check first, not even after a commit whose reply was lost: the call itself waits until the old transaction
/// has ended, and then gets its result or runs.
pub(crate) async fn submit(pool: &Pool<Db>, request: &Transfer) -> Answer {
    let begin = Instant::now();
    let (mut retries, mut in_doubt) = (0, Vec::new());
    let mut pause_ms = 1;
    loop {
        match attempt(pool, request).await {
            (Err(error), _) if error.is_retryable() && begin.elapsed() < PATIENCE => {
                if let TransferError::Commit(_, Some(receipt)) = error {
                    in_doubt.push(receipt);
                }
            }
            (result, disposition) => return Answer { result, disposition, retries, in_doubt },
        }
        retries += 1;
        // A random pause, so that the clients do not retry all at once.
        sleep(Duration::from_millis(rand::random_range(0..=pause_ms))).await;
        pause_ms = (pause_ms * 2).min(200);
    }
}
