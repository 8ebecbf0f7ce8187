//! The proof: what the tables say of everything that was sent.

use sqlx::FromRow;

/// One statement, so that all of it is about the same moment, whatever other processes write meanwhile.
pub(crate) const AUDIT: &str = include_str!("audit.sql");

/// The findings of `audit.sql`.
#[derive(Clone, Default, FromRow)]
pub(crate) struct Books {
    /// Orders that were sent, without the forgeries.
    pub(crate) messages: i64,
    /// The sendings of them and of the forgeries, and those of these that were not the first of their message.
    pub(crate) sendings: i64,
    pub(crate) duplicates: i64,
    pub(crate) bookings: i64,
    pub(crate) payments: i64,
    /// Attempts beyond the first ones.
    pub(crate) retried: i64,
    pub(crate) dead: i64,
    pub(crate) conflicts: i64,
    /// Messages that wait in the outbox.
    pub(crate) in_outbox: i64,
    pub(crate) twice: i64,
    pub(crate) lost_orders: i64,
    pub(crate) lost_forgeries: i64,
    pub(crate) unasked: i64,
}

impl Books {
    /// Messages that are neither booked as they have to be, nor a dead letter for the right reason.
    pub(crate) const fn lost(&self) -> i64 {
        self.lost_orders + self.lost_forgeries
    }

    /// The part that has been done.
    pub(crate) fn progress(&self) -> u64 {
        u64::try_from(self.bookings + self.payments + self.dead).unwrap_or_default()
    }
}
