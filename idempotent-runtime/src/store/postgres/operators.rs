//! What operators do, and the store by itself: it shows and removes records of any owner.

use std::sync::Weak;

use super::{
    PostgresShared, contended,
    executor::User,
    listener::payload,
    parameters::{of, resolve},
    row,
    transitions::TRIES,
};
use crate::store::{
    ClaimOutcome, Cursor, Page, Record, RecordKey, ResolveRequest, Resolved, StoreError, StoreErrorKind, StoreResult,
    Subscription,
};

/// The most records of a page of a listing, and of a batch of a purge.
const MAX_BATCH_LEN: usize = 10_000;

/// The records of a batch that is removed in passing: a statement holds up nobody for long.
const SWEEP_LEN: usize = 500;

impl PostgresShared {
    pub(super) async fn forget(&self, key: &RecordKey) -> StoreResult<bool> {
        let bind = |query| of(query, key).bind(payload(key));
        let answer = self.executor.row(User::Anybody, &self.statements.forget, bind);
        answer.await?.map_or(Ok(false), |row| row::get(&row, 0))
    }

    pub(super) async fn resolve(&self, key: &RecordKey, request: &ResolveRequest) -> StoreResult<Resolved> {
        for _ in 0..TRIES {
            let bind = |query| resolve(query, key, request);
            if self.executor.row(User::Anybody, &self.statements.resolve, bind).await?.is_some() {
                return Ok(Resolved::Applied);
            }
            let Some(record) = self.inspect(key).await? else { return Ok(request.of_vacant()) };
            if let Some(answer) = request.answer(&record) {
                return Ok(answer);
            }
        }
        Err(contended())
    }

    pub(super) async fn inspect(&self, key: &RecordKey) -> StoreResult<Option<Record>> {
        let answer = self.executor.row(User::Anybody, &self.statements.inspect, |query| of(query, key));
        answer.await?.as_ref().map(row::record).transpose()
    }

    pub(super) async fn list(
        &self,
        operation: Option<&str>,
        after: Option<&Cursor>,
        limit: usize,
    ) -> StoreResult<Page> {
        // Operations and keys are printable ASCII: a blank sorts before all that follows a key, and a delete character
        // after every operation.
        let last = operation.unwrap_or("\x7f");
        let (first, key) = match after {
            None => (operation.unwrap_or_default().to_owned(), String::new()),
            Some(cursor) => {
                let foreign = StoreError::new(StoreErrorKind::Refused, "the cursor was not made by this store");
                let done: RecordKey = cursor.as_str().parse().map_err(|_| foreign)?;
                (done.operation().to_owned(), format!("{} ", done.key()))
            }
        };
        let limit = limit.clamp(1, MAX_BATCH_LEN);
        let answer = self.executor.rows(User::Anybody, &self.statements.list, |query| {
            query.bind(first.clone()).bind(key.clone()).bind(last).bind(i64::try_from(limit).unwrap_or(i64::MAX))
        });
        let rows = answer.await?;
        let mut page = Page::default();
        if rows.len() == limit
            && let Some(row) = rows.last()
        {
            let (operation, key): (&str, &str) = (row::get(row, 0)?, row::get(row, 1)?);
            page.next = Some(Cursor::new(format!("{operation}{}{key}", RecordKey::SEPARATOR)));
        }
        for row in &rows {
            match row::record(row) {
                Ok(record) => page.records.push(record),
                // A row that is no record is left out; a claim of its key says so.
                Err(error) if error.kind() == StoreErrorKind::Corrupt => {}
                Err(error) => return Err(error),
            }
        }
        Ok(page)
    }

    pub(super) async fn purge_expired(&self, limit: usize, leave_to_others: bool) -> StoreResult<usize> {
        let limit = i64::try_from(limit.min(MAX_BATCH_LEN)).unwrap_or(i64::MAX);
        let answer =
            self.executor.row(User::Anybody, &self.statements.purge, |query| query.bind(limit).bind(leave_to_others));
        let Some(row) = answer.await? else {
            return Ok(0);
        };
        Ok(usize::try_from(row::get::<i64>(&row, 0)?).unwrap_or_default())
    }

    /// Starts a sweep if one is due after this answer to a claim.
    pub(super) fn pass(&self, answer: &StoreResult<ClaimOutcome>) {
        self.sweep.passing(answer, || {
            let this = Weak::clone(&self.this);
            move || {
                let shared = this.upgrade();
                Box::pin(async move {
                    let Some(shared) = shared else { return Ok(false) };
                    Ok(shared.purge_expired(SWEEP_LEN, true).await? == SWEEP_LEN)
                })
            }
        });
    }

    pub(super) async fn subscribe(&self, key: &RecordKey) -> Subscription {
        let subscription = self.listener.subscribe(key).await;
        // After a failure the subscription may be silent. Its owner polls as well.
        let _ = self.executor.rows(User::Anybody, &self.statements.wait, |query| of(query, key)).await;
        subscription
    }
}
