//! The SQLite store with one promise broken of those beyond `Store`: of its steps in transactions, or of its dead letters.

mod letters;
mod transactions;

use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use async_trait::async_trait;
use idempotent_runtime::store::{
    Appended, ClaimOutcome, ClaimRequest, Cursor, DeadLetters, Finished, Nonce, Outcome, Page, Past, Record, RecordKey,
    ResolveRequest, Resolved, State, Step, Store, StoreResult, Subscribers, Subscription, Suspension, Token,
    Transition, Why, immediate::Immediate, transactional::Transactional,
};

use crate::{backend::Backend, sqlite_file::SqliteFile};

/// The broken promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BeyondBug {
    EndIgnoresOwner,
    EndLeavesTheTransaction,
    EndOfLapsedIsRefused,
    EndOfTheDoneIsRepeated,
    EndIsSeenAtOnce,
    RollbackLosesTheClaim,
    ErrorsAreCommittedAsResults,
    CommittedIsKeptTooLong,
    JournalOutlivesTheCommit,
    OwnsAnything,
    OwnsNothingThatLapsed,
    OwnsWhatHasEnded,
    ClaimsWhileItsTransactionIsOpen,
    SuspensionDoesNotWait,
    CommittedIsSilent,
    CompleteInsideDoesNothing,
    UndoKeeps,
    KeepUndoes,
    HalfACallIsCommitted,

    BuryIgnoresOwner,
    BuryLeavesTheRun,
    BuryWritesNoLetter,
    BuryOfLapsedIsLost,
    BuryOfTheDoneIsApplied,
    ExhaustedIsDead,
    BuryRepeatIsLost,
    BuryRepeatWritesAnother,
    DiscardedIsBuriedAnew,
    BuryDropsTheJournal,
    BuryIsSilent,
    DeadIsKeptTooLong,
    BuryLeavesItReplaying,
    PutOverwrites,
    PutEndsAReplay,
    OneLetterAKey,
    PayloadsAreText,
    EmptyPayloadIsNone,
    ErrorsAreCut,
    LettersAreReversed,
    OperationsIgnoreTheirStart,
    PagesIgnoreTheirStart,
    PagesIgnoreTheirLimit,
    ReplayingShowsTheDead,
    ReplayIsAskedTwice,
    ReplayTakesAnothersKey,
    ReplaysWhatCannotBeRun,
    ReplayLeavesTheRecord,
    ReplayForgetsTheRecord,
    ReplayCountsOn,
    DeadAgainDoesNothing,
    DeadAgainIsForEver,
    WorkedOffRemovesTheDead,
    WorkedOffForgetsTheRecord,
    DiscardSparesTheReplayed,
    DiscardIgnoresTheOperation,
    NumbersAreUsedAgain,
    LettersEndWithTheirRecord,
}

/// Facts that the mutants remember, so that they can do the wrong thing.
#[derive(Default)]
struct Seen {
    owners: HashMap<RecordKey, Token>,
    /// The keys whose run an end in a transaction has ended, committed or not.
    ended: HashSet<RecordKey>,
    buried: HashSet<Nonce>,
    made_dead_again: HashSet<i64>,
}

/// A handle of a store with this bug.
#[derive(Clone)]
pub struct BeyondMutant {
    store: Arc<dyn Store>,
    file: SqliteFile,
    tick: Duration,
    bug: Option<BeyondBug>,
    subscribers: Subscribers,
    seen: Arc<Mutex<Seen>>,
}

impl fmt::Debug for BeyondMutant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BeyondMutant").field("bug", &self.bug).finish_non_exhaustive()
    }
}

impl BeyondMutant {
    /// A store in the file of this backend.
    ///
    /// # Panics
    ///
    /// Where the backend is not SQLite.
    pub async fn new(backend: &Backend, bug: Option<BeyondBug>) -> Self {
        let Backend::Sqlite { file } = backend else { panic!("these mutants are of SQLite") };
        Self {
            store: backend.store().await,
            file: file.clone(),
            tick: backend.tick(),
            bug,
            subscribers: Subscribers::new(),
            seen: Arc::default(),
        }
    }

    /// Another handle of it.
    #[must_use]
    pub async fn other_handle(&self, backend: &Backend) -> Self {
        Self { store: backend.store().await, ..self.clone() }
    }

    fn is(&self, bug: BeyondBug) -> bool {
        self.bug == Some(bug)
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().expect("no panic while it is held")
    }

    fn has_ended(&self, key: &RecordKey) -> bool {
        self.seen().ended.contains(key)
    }

    async fn state(&self, key: &RecordKey) -> StoreResult<Option<State>> {
        Ok(self.store.inspect(key).await?.map(|record| record.state))
    }

    fn wake<T: PartialEq>(&self, key: &RecordKey, answer: StoreResult<T>, applied: &T) -> StoreResult<T> {
        if answer.as_ref().is_ok_and(|answer| answer == applied) {
            self.subscribers.notify(key.as_str());
        }
        answer
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl Store for BeyondMutant {
    async fn claim(&self, key: &RecordKey, request: &ClaimRequest) -> StoreResult<ClaimOutcome> {
        match self.bug {
            Some(BeyondBug::EndIsSeenAtOnce) if self.has_ended(key) => {
                return Ok(ClaimOutcome::Done(Finished::new(request.fingerprint, 1, Outcome::Ok("1".into()))));
            }
            Some(BeyondBug::ClaimsWhileItsTransactionIsOpen) if self.state(key).await? == Some(State::Lapsed) => {
                return Ok(ClaimOutcome::claimed(Token::new(request.nonce), 2, Past::none(request.nonce)));
            }
            _ => {}
        }
        let answer = self.store.claim(key, request).await?;
        let ClaimOutcome::Claimed { token, attempt, mut past, .. } = answer else { return Ok(answer) };
        past.has_steps |= self.is(BeyondBug::JournalOutlivesTheCommit) && self.has_ended(key);
        self.seen().owners.insert(key.clone(), token);
        Ok(ClaimOutcome::claimed(token, attempt, past))
    }

    async fn renew(&self, key: &RecordKey, token: &Token, lease: Duration, ttl: Duration) -> StoreResult<Transition> {
        self.store.renew(key, token, lease, ttl).await
    }

    async fn complete(
        &self,
        key: &RecordKey,
        token: &Token,
        outcome: &Outcome,
        ttl: Duration,
    ) -> StoreResult<Transition> {
        let answer = self.store.complete(key, token, outcome, ttl).await;
        self.wake(key, answer, &Transition::Applied)
    }

    async fn release(&self, key: &RecordKey, token: &Token, keep: Duration) -> StoreResult<Transition> {
        let answer = self.store.release(key, token, keep).await;
        self.wake(key, answer, &Transition::Applied)
    }

    async fn suspend(
        &self,
        key: &RecordKey,
        token: &Token,
        why: Why,
        not_before: Duration,
        keep: Duration,
    ) -> StoreResult<Suspension> {
        if self.is(BeyondBug::SuspensionDoesNotWait) && self.has_ended(key) {
            return Ok(Suspension::Applied);
        }
        let answer = self.store.suspend(key, token, why, not_before, keep).await;
        self.wake(key, answer, &Suspension::Applied)
    }

    async fn append(
        &self,
        key: &RecordKey,
        token: &Token,
        step: &Step,
        lease: Duration,
        ttl: Duration,
    ) -> StoreResult<Appended> {
        self.store.append(key, token, step, lease, ttl).await
    }

    async fn steps(&self, key: &RecordKey, token: &Token) -> StoreResult<Option<Vec<Step>>> {
        self.store.steps(key, token).await
    }

    async fn fence(&self, key: &RecordKey, token: &Token) -> StoreResult<Option<u64>> {
        self.store.fence(key, token).await
    }

    async fn forget(&self, key: &RecordKey) -> StoreResult<bool> {
        if self.is(BeyondBug::LettersEndWithTheirRecord) {
            let (operation, key) = (key.operation(), key.key());
            let sql = format!("DELETE FROM idempotent_records_dead WHERE operation = '{operation}' AND key = '{key}'");
            self.file.execute(&sql).await;
        }
        let answer = self.store.forget(key).await;
        self.wake(key, answer, &true)
    }

    async fn resolve(&self, key: &RecordKey, request: &ResolveRequest) -> StoreResult<Resolved> {
        self.store.resolve(key, request).await
    }

    async fn inspect(&self, key: &RecordKey) -> StoreResult<Option<Record>> {
        if self.is(BeyondBug::RollbackLosesTheClaim) && self.has_ended(key) {
            return Ok(None);
        }
        self.store.inspect(key).await
    }

    async fn list(&self, operation: Option<&str>, after: Option<&Cursor>, limit: usize) -> StoreResult<Page> {
        self.store.list(operation, after, limit).await
    }

    async fn purge_expired(&self, limit: usize) -> StoreResult<usize> {
        self.store.purge_expired(limit).await
    }

    async fn subscribe(&self, key: &RecordKey) -> StoreResult<Subscription> {
        Ok(self.subscribers.subscribe(key).0)
    }

    fn dead_letters(&self) -> Option<&dyn DeadLetters> {
        Some(self)
    }

    fn transactional(&self) -> Option<&dyn Transactional> {
        Some(self)
    }

    fn immediate(&self) -> Option<&dyn Immediate> {
        None
    }

    fn peek(&self, key: &RecordKey) -> Option<Finished> {
        self.store.peek(key)
    }

    fn at_hand(&self, key: &RecordKey) -> Option<Finished> {
        self.store.at_hand(key)
    }
}
