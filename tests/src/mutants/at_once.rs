//! Steps at once that are not taken.

use std::time::Duration;

use idempotent_runtime::store::{
    ClaimOutcome, ClaimRequest, Outcome, Past, RecordKey, StoreResult, Token, Transition, immediate::Immediate,
    memory::MemoryStore,
};

use super::Bug;

/// A memory store's steps, one of them made up.
#[derive(Clone)]
pub(super) struct AtOnce {
    pub(super) store: MemoryStore,
    pub(super) bug: Option<Bug>,
}

impl AtOnce {
    fn store(&self) -> &dyn Immediate {
        idempotent_runtime::Store::immediate(&self.store).expect("the memory store never waits")
    }
}

impl Immediate for AtOnce {
    fn claim(&self, key: &RecordKey, request: &ClaimRequest) -> StoreResult<ClaimOutcome> {
        if self.bug == Some(Bug::ClaimsAtOnceAreMadeUp) {
            let token = Token::new(request.nonce);
            return Ok(ClaimOutcome::claimed(token, 1, Past::none(token.nonce)));
        }
        self.store().claim(key, request)
    }

    fn complete(&self, key: &RecordKey, token: &Token, outcome: &Outcome, ttl: Duration) -> StoreResult<Transition> {
        if self.bug == Some(Bug::CompletionsAtOnceAreMadeUp) {
            return Ok(Transition::Applied);
        }
        self.store().complete(key, token, outcome, ttl)
    }
}
