//! The audit: the sums of the books, and every mistake in them.

use serde::Serialize;
use sqlx::FromRow;

use crate::load::OPENING_CENTS;

pub(crate) const AUDIT: &str = include_str!("audit.sql");

/// The books at one moment, as `audit.sql` reads them.
#[derive(Serialize, FromRow)]
pub(crate) struct Books {
    accounts: i64,
    pub(crate) total_cents: i64,
    pub(crate) entries: i64,
    /// Transfers according to their records: made, and refused.
    pub(crate) made: i64,
    pub(crate) refused: i64,
    /// Accounts with a negative balance, and accounts whose balance is not the sum of their entries.
    overdrawn: i64,
    off_balance: i64,
    /// Transfers with more than two entries; with fewer, or with two that do not cancel out.
    made_twice: i64,
    made_in_part: i64,
    /// Transfers with entries and no record, records without entries, and records of runs that have not ended.
    without_record: i64,
    without_entries: i64,
    without_end: i64,
}

impl Books {
    /// The sum of all accounts at the start.
    pub(crate) const fn expected_cents(&self) -> i64 {
        self.accounts * OPENING_CENTS
    }

    /// The mistakes, each with its count.
    pub(crate) fn mistakes(&self) -> impl Iterator<Item = (&'static str, i64)> {
        let mistakes = [
            ("cents too few or too many", (self.total_cents - self.expected_cents()).abs()),
            ("accounts overdrawn", self.overdrawn),
            ("accounts off balance", self.off_balance),
            ("transfers made twice", self.made_twice),
            ("transfers made in part", self.made_in_part),
            ("transfers without a record", self.without_record),
            ("records without a transfer", self.without_entries),
            ("records without an end", self.without_end),
        ];
        mistakes.into_iter().filter(|(_, count)| *count != 0)
    }
}
