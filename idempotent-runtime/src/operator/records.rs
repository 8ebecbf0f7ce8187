//! A listing, page by page.

use super::filter::Filter;
use crate::{
    error::Error,
    idempotency::Idempotency,
    store::{Cursor, Record},
};

/// The records that are asked of the store at a time.
const PAGE_LEN: usize = 500;

/// A listing under way. [`Operator::list`](super::Operator::list) begins it.
#[derive(Debug)]
#[must_use = "a listing asks for nothing until its next page is"]
pub struct Records {
    idempotency: Idempotency,
    filter: Filter,
    /// The records that may still be given.
    left: usize,
    position: Position,
}

/// The position of a listing.
#[derive(Debug)]
pub(crate) enum Position {
    Start,
    After(Cursor),
    End,
}

impl Records {
    pub(super) fn new(idempotency: Idempotency, filter: Filter) -> Self {
        let left = filter.limit.unwrap_or(usize::MAX);
        Self { idempotency, filter, left, position: Position::Start }
    }

    /// Gives the next records, in no particular order, and `None` at the end. It holds one page of the store at a time.
    ///
    /// Records that exist from the first page to the last are listed at least once.
    ///
    /// # Errors
    ///
    /// [`Error::Store`], [`Error::Undecodable`]. Asked again, it goes on where it was.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it goes on where it was when it is asked again.
    pub async fn next_page(&mut self) -> Result<Option<Vec<Record>>, Error> {
        loop {
            let after = match &self.position {
                _ if self.left == 0 => return Ok(None),
                Position::End => return Ok(None),
                Position::Start => None,
                Position::After(cursor) => Some(cursor),
            };
            let page = self.idempotency.list(self.filter.operation.as_deref(), after, PAGE_LEN).await?;
            self.position = page.next.map_or(Position::End, Position::After);
            let mut records = page.records;
            records.retain(|record| self.filter.lets_pass(record));
            records.truncate(self.left);
            self.left -= records.len();
            if !records.is_empty() {
                return Ok(Some(records));
            }
        }
    }
}
