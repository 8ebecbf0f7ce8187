//! A store that keeps nothing.

use std::time::Duration;

use async_trait::async_trait;

use crate::store::{
    Appended, ClaimOutcome, ClaimRequest, Cursor, Outcome, Page, Past, Record, RecordKey, ResolveRequest, Resolved,
    Step, Store, StoreResult, Subscription, Suspension, Token, Transition, Why,
    immediate::Immediate,
    transactional::{Connection, Transactional},
};

/// Grants each claim, as if its key had never been seen.
#[derive(Debug)]
pub(crate) struct Passthrough;

fn granted(request: &ClaimRequest) -> ClaimOutcome {
    let token = Token::new(request.nonce).with_fence(Some(1));
    ClaimOutcome::claimed(token, 1, Past::none(request.nonce))
}

impl Immediate for Passthrough {
    fn claim(&self, _: &RecordKey, request: &ClaimRequest) -> StoreResult<ClaimOutcome> {
        Ok(granted(request))
    }

    fn complete(&self, _: &RecordKey, _: &Token, _: &Outcome, _: Duration) -> StoreResult<Transition> {
        Ok(Transition::Applied)
    }
}

#[async_trait]
impl Store for Passthrough {
    fn immediate(&self) -> Option<&dyn Immediate> {
        Some(self)
    }

    fn transactional(&self) -> Option<&dyn Transactional> {
        Some(self)
    }

    async fn claim(&self, _: &RecordKey, request: &ClaimRequest) -> StoreResult<ClaimOutcome> {
        Ok(granted(request))
    }

    async fn renew(&self, _: &RecordKey, _: &Token, _: Duration, _: Duration) -> StoreResult<Transition> {
        Ok(Transition::Applied)
    }

    async fn complete(&self, _: &RecordKey, _: &Token, _: &Outcome, _: Duration) -> StoreResult<Transition> {
        Ok(Transition::Applied)
    }

    async fn release(&self, _: &RecordKey, _: &Token, _: Duration) -> StoreResult<Transition> {
        Ok(Transition::Applied)
    }

    async fn suspend(&self, _: &RecordKey, _: &Token, _: Why, _: Duration, _: Duration) -> StoreResult<Suspension> {
        Ok(Suspension::Applied)
    }

    async fn append(&self, _: &RecordKey, _: &Token, _: &Step, _: Duration, _: Duration) -> StoreResult<Appended> {
        Ok(Appended::Applied)
    }

    async fn steps(&self, _: &RecordKey, _: &Token) -> StoreResult<Option<Vec<Step>>> {
        Ok(Some(Vec::new()))
    }

    async fn fence(&self, _: &RecordKey, _: &Token) -> StoreResult<Option<u64>> {
        Ok(Some(1))
    }

    async fn forget(&self, _: &RecordKey) -> StoreResult<bool> {
        Ok(false)
    }

    async fn resolve(&self, _: &RecordKey, _: &ResolveRequest) -> StoreResult<Resolved> {
        Ok(Resolved::Changed)
    }

    async fn inspect(&self, _: &RecordKey) -> StoreResult<Option<Record>> {
        Ok(None)
    }

    async fn list(&self, _: Option<&str>, _: Option<&Cursor>, _: usize) -> StoreResult<Page> {
        Ok(Page::default())
    }

    async fn purge_expired(&self, _: usize) -> StoreResult<usize> {
        Ok(0)
    }

    async fn subscribe(&self, _: &RecordKey) -> StoreResult<Subscription> {
        Ok(Subscription::never())
    }
}

/// The body's statements are all that a transaction has of the call.
#[async_trait]
impl Transactional for Passthrough {
    async fn savepoint(&self, _: Connection<'_>, _: &str) -> StoreResult<()> {
        Ok(())
    }

    async fn claim(
        &self,
        _: Connection<'_>,
        _: &RecordKey,
        request: &ClaimRequest,
        _: Duration,
    ) -> StoreResult<ClaimOutcome> {
        Ok(granted(request))
    }

    async fn inspect(&self, _: Connection<'_>, _: &RecordKey) -> StoreResult<Option<Record>> {
        Ok(None)
    }

    async fn complete(&self, _: Connection<'_>, _: &RecordKey, _: &Token, _: &Outcome, _: Duration) -> StoreResult<()> {
        Ok(())
    }

    async fn end(
        &self,
        _: Connection<'_>,
        _: &RecordKey,
        _: &Token,
        _: &Outcome,
        _: Duration,
        _: Duration,
    ) -> StoreResult<bool> {
        Ok(true)
    }

    async fn owns(&self, _: Connection<'_>, _: &RecordKey, _: &Token) -> StoreResult<bool> {
        Ok(true)
    }

    async fn undo(&self, _: Connection<'_>, _: &str) -> StoreResult<()> {
        Ok(())
    }

    async fn keep(&self, _: Connection<'_>, _: &str) -> StoreResult<()> {
        Ok(())
    }
}
