//! The program's tables, read with the test's own eyes.

use idempotent_tests::database::Database;

pub(crate) trait Tables {
    async fn entries(&self) -> i64;

    /// Asserts that so many transfers were asked for, and so many of them made, each exactly once.
    async fn assert_exact(&self, transfers: i64, made: i64);
}

impl Tables for Database {
    async fn entries(&self) -> i64 {
        self.number("SELECT count(*) FROM ledger").await
    }

    async fn assert_exact(&self, transfers: i64, made: i64) {
        let total = self.number("SELECT CAST(sum(balance_cents) AS bigint) FROM accounts").await;
        assert_eq!(total, 20 * 100_000, "not a cent more or less");
        assert_eq!(self.number("SELECT count(DISTINCT transfer_id) FROM ledger").await, made);
        assert_eq!(self.entries().await, 2 * made);
        let pairs = "SELECT count(*) FROM ledger AS paid JOIN ledger AS got ON got.transfer_id = paid.transfer_id
                     AND got.cents = -paid.cents AND got.account_id <> paid.account_id WHERE paid.cents < 0";
        assert_eq!(self.number(pairs).await, made);
        assert_eq!(self.records().await, transfers);
        let accepted = "SELECT count(*) FROM idempotent_records WHERE state = 'ok' AND unended IS NULL AND key IN
                        (SELECT transfer_id FROM ledger)";
        assert_eq!(self.number(accepted).await, made);
        assert_eq!(
            self.number("SELECT count(*) FROM idempotent_records WHERE state LIKE 'err%'").await,
            transfers - made
        );
    }
}
