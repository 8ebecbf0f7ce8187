//! Makes pointers to a store stores: each method calls the method behind the pointer.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;

use super::{
    Appended, ClaimOutcome, ClaimRequest, Cursor, DeadLetters, Finished, Outcome, Page, Record, RecordKey,
    ResolveRequest, Resolved, Step, Store, StoreResult, Subscription, Suspension, Token, Transition, Why,
    immediate::Immediate, transactional::Transactional,
};

macro_rules! forward_store {
    ($($pointer:ty),*) => {$(
        #[deny(clippy::missing_trait_methods)]
        #[async_trait]
        impl<S: Store + ?Sized> Store for $pointer {
            async fn claim(
                &self,
                key: &RecordKey,
                request: &ClaimRequest,
            ) -> StoreResult<ClaimOutcome> {
                (**self).claim(key, request).await
            }
            async fn renew(
                &self,
                key: &RecordKey,
                token: &Token,
                lease: Duration,
                ttl: Duration,
            ) -> StoreResult<Transition> {
                (**self).renew(key, token, lease, ttl).await
            }
            async fn complete(
                &self,
                key: &RecordKey,
                token: &Token,
                outcome: &Outcome,
                ttl: Duration,
            ) -> StoreResult<Transition> {
                (**self).complete(key, token, outcome, ttl).await
            }
            async fn release(
                &self,
                key: &RecordKey,
                token: &Token,
                keep: Duration,
            ) -> StoreResult<Transition> {
                (**self).release(key, token, keep).await
            }
            async fn suspend(
                &self,
                key: &RecordKey,
                token: &Token,
                why: Why,
                not_before: Duration,
                keep: Duration,
            ) -> StoreResult<Suspension> {
                (**self).suspend(key, token, why, not_before, keep).await
            }
            async fn append(
                &self,
                key: &RecordKey,
                token: &Token,
                step: &Step,
                lease: Duration,
                ttl: Duration,
            ) -> StoreResult<Appended> {
                (**self).append(key, token, step, lease, ttl).await
            }
            async fn steps(
                &self,
                key: &RecordKey,
                token: &Token,
            ) -> StoreResult<Option<Vec<Step>>> {
                (**self).steps(key, token).await
            }
            async fn fence(
                &self,
                key: &RecordKey,
                token: &Token,
            ) -> StoreResult<Option<u64>> {
                (**self).fence(key, token).await
            }
            async fn forget(&self, key: &RecordKey) -> StoreResult<bool> {
                (**self).forget(key).await
            }
            async fn resolve(&self, key: &RecordKey, request: &ResolveRequest) -> StoreResult<Resolved> {
                (**self).resolve(key, request).await
            }
            async fn inspect(
                &self,
                key: &RecordKey,
            ) -> StoreResult<Option<Record>> {
                (**self).inspect(key).await
            }
            async fn list(
                &self,
                operation: Option<&str>,
                after: Option<&Cursor>,
                limit: usize,
            ) -> StoreResult<Page> {
                (**self).list(operation, after, limit).await
            }
            async fn purge_expired(&self, limit: usize) -> StoreResult<usize> {
                (**self).purge_expired(limit).await
            }
            async fn subscribe(
                &self,
                key: &RecordKey,
            ) -> StoreResult<Subscription> {
                (**self).subscribe(key).await
}
            fn transactional(&self) -> Option<&dyn Transactional> {
                (**self).transactional()
            }
            fn dead_letters(&self) -> Option<&dyn DeadLetters> {
                (**self).dead_letters()
            }
            fn immediate(&self) -> Option<&dyn Immediate> {
                (**self).immediate()
            }
            fn peek(&self, key: &RecordKey) -> Option<Finished> {
                (**self).peek(key)
            }
            fn at_hand(&self, key: &RecordKey) -> Option<Finished> {
                (**self).at_hand(key)
            }
        }
    )*};
}

forward_store!(Arc<S>, Box<S>);
