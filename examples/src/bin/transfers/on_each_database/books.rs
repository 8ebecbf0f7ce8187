//! The books: their tables, and the queries of the audit.

use sqlx::{Pool, query, query_as, query_scalar, raw_sql};

use super::{Db, TABLES};
use crate::{
    audit::{AUDIT, Books},
    load::{ACCOUNTS, OPENING_CENTS, account},
    transfer::{Receipt, Transfer},
};

/// Creates the books, unless they exist. Of several processes that create them at the same time, one succeeds; the others get an
/// error, and find the books when they try again.
pub(crate) async fn set_up(pool: &Pool<Db>) -> sqlx::Result<()> {
    // The books are created in one transaction, so they are there as a whole or not at all.
    if query("SELECT id FROM accounts").fetch_all(pool).await.is_ok() {
        return Ok(());
    }
    let mut tx = pool.begin().await?;
    raw_sql(TABLES).execute(&mut *tx).await?;
    for index in 0..ACCOUNTS {
        let open = query("INSERT INTO accounts (id, balance_cents) VALUES ($1, $2)");
        open.bind(account(index)).bind(OPENING_CENTS).execute(&mut *tx).await?;
    }
    tx.commit().await
}

/// Reads the audit.
pub(crate) async fn audit(pool: &Pool<Db>) -> sqlx::Result<Books> {
    query_as(AUDIT).bind(OPENING_CENTS).fetch_one(pool).await
}

/// True if the books have the entry that the client was told of.
pub(crate) async fn shows(pool: &Pool<Db>, transfer: &Transfer, receipt: &Receipt) -> sqlx::Result<bool> {
    let entry = "SELECT count(*) FROM ledger WHERE id = $1 AND transfer_id = $2 AND account_id = $3 AND cents = $4";
    let entry = query_scalar(entry).bind(receipt.entry).bind(transfer.id.as_str()).bind(transfer.from);
    let count: i64 = entry.bind(-transfer.cents).fetch_one(pool).await?;
    Ok(count == 1)
}
