//! The service: a function that moves money, and how it is called. This is the file to copy from.
//!
//! sqlx has a type for each database. `Db` is one of them: this file is compiled once with `sqlx::Postgres` and once
//! with `sqlx::Sqlite`.

use std::time::Duration;

use idempotent_runtime::{Disposition, idempotent, with_disposition};
use sqlx::{Pool, Transaction, query_scalar};
use tokio::time::{Instant, sleep};

use super::Db;
use crate::transfer::{Answer, Receipt, Transfer, TransferError};

const MOVE: &str = "UPDATE accounts SET balance_cents = balance_cents + $1 WHERE id = $2 RETURNING balance_cents";
const POST: &str = "INSERT INTO ledger (transfer_id, account_id, cents) VALUES ($1, $2, $3) RETURNING id";

/// Moves money once, however often it is asked to: two balances, two entries in the ledger and the record of the call
/// are committed together, or none of them.
///
/// An `Err` takes back what the body has done so far, however the caller goes on: of a transfer that is refused, the
/// record is all there is.
#[idempotent(
    name = "transfers.transfer",
    key = request.id,
    ttl = "30d",
    transaction = tx,
    errors = TransferError::is_final
)]
pub(crate) async fn transfer(tx: &mut Transaction<'_, Db>, request: &Transfer) -> Result<Receipt, TransferError> {
    let mut changes = [(request.from, -request.cents), (request.to, request.cents)];
    // In the same order by everybody, so that no two transfers wait for an account that the other one has.
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

/// One try: begin, call, commit.
///
/// # Errors
///
/// Those of [`transfer`], and [`TransferError::Commit`]. What is not [final](TransferError::is_final) has left nothing,
/// but a commit that failed may have been applied all the same.
async fn attempt(pool: &Pool<Db>, request: &Transfer) -> (Result<Receipt, TransferError>, Disposition) {
    let mut tx = match pool.begin().await {
        Ok(tx) => tx,
        Err(error) => return (Err(error.into()), Disposition::NotCalled),
    };
    let (answer, disposition) = with_disposition(transfer(&mut tx, request)).await;
    // A refusal has a record, to be committed as well.
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

/// How long a request is tried for.
const PATIENCE: Duration = Duration::from_mins(1);

/// Tries, each time in a new transaction, until there is an answer or patience ends.
///
/// There is nothing to find out before another try, not even whether a commit was applied whose reply was lost: the
/// call itself waits for the old transaction's end, and then gets its result or runs.
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
        // Not all at once.
        sleep(Duration::from_millis(rand::random_range(0..=pause_ms))).await;
        pause_ms = (pause_ms * 2).min(200);
    }
}
