//! Stores with one promise broken: of `Store`, here, by the memory store.
#![expect(clippy::expect_used, reason = "a test fails so")]

mod at_once;
mod beyond;
mod bug;

use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use idempotent_runtime::{
    Fingerprint,
    store::{
        Appended, Before, ClaimOutcome, ClaimRequest, Cursor, DeadLetters, Finished, Nonce, NotKept, Outcome, Page,
        Past, Record, RecordKey, ResolveRequest, Resolved, State, Step, Store, StoreResult, Subscribers, Subscription,
        Suspension, TakeOver, Token, Transition, Why, immediate::Immediate, memory::MemoryStore,
        transactional::Transactional,
    },
};

use self::at_once::AtOnce;
pub use self::{
    beyond::{BeyondBug, BeyondMutant},
    bug::Bug,
};

/// Facts that the mutants remember, so that they can do the wrong thing.
#[derive(Default)]
struct Seen {
    owners: HashMap<RecordKey, Token>,
    claims: HashSet<(RecordKey, Nonce)>,
    attempts: HashMap<RecordKey, u32>,
    completions: HashSet<Nonce>,
    suspensions: HashSet<Nonce>,
    journals: HashMap<RecordKey, Vec<Step>>,
    exhausted: HashSet<RecordKey>,
    results: HashMap<RecordKey, Finished>,
    /// The number from which the fences of a key are counted.
    fence_base: HashMap<RecordKey, u64>,
    fences_made: u64,
    renewed: HashSet<RecordKey>,
    resolutions: HashSet<Nonce>,
    resolved: HashSet<RecordKey>,
    /// The arguments that a key's claims have recorded.
    arguments: HashMap<RecordKey, Bytes>,
}

#[derive(Clone)]
pub struct Mutant {
    store: MemoryStore,
    at_once: AtOnce,
    bug: Option<Bug>,
    subscribers: Subscribers,
    seen: Arc<Mutex<Seen>>,
}

impl fmt::Debug for Mutant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mutant").field("bug", &self.bug).finish_non_exhaustive()
    }
}

const TICK: Duration = Duration::from_nanos(1);

impl Mutant {
    pub fn new(store: MemoryStore, bug: Option<Bug>) -> Self {
        let at_once = AtOnce { store: store.clone(), bug };
        Self { store, at_once, bug, subscribers: Subscribers::new(), seen: Arc::default() }
    }

    pub fn other_handle(&self, apart: MemoryStore) -> Self {
        let mut other = self.clone();
        if self.is(Bug::OtherHandleIsDeaf) {
            other.subscribers = Subscribers::new();
        }
        if self.is(Bug::HandlesAreApart) {
            other.store = apart;
        }
        other
    }

    fn is(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().expect("no panic while it is held")
    }

    /// The key under which the mutant keeps a key's record.
    fn place(&self, key: &RecordKey) -> RecordKey {
        let text = key.as_str();
        let moved = match self.bug {
            Some(Bug::KeysFoldCase) => text.to_lowercase(),
            Some(Bug::KeysAreCut) => text[..text.len().min(250)].to_owned(),
            Some(Bug::KeysRunTogether) => format!("all|{}{}", key.operation(), key.key()),
            _ => return key.clone(),
        };
        moved.parse::<RecordKey>().expect("still a record key")
    }

    async fn record(&self, key: &RecordKey) -> StoreResult<Option<Record>> {
        self.store.inspect(key).await
    }

    async fn is_lapsed(&self, key: &RecordKey) -> StoreResult<bool> {
        Ok(self.record(key).await?.is_some_and(|record| record.state == State::Lapsed))
    }

    async fn is_suspended(&self, key: &RecordKey) -> StoreResult<bool> {
        let record = self.record(key).await?;
        Ok(record.is_some_and(|record| matches!(record.state, State::Failed | State::Abandoned)))
    }

    /// A fingerprint that a forgetful store takes for the record's.
    async fn forgiven(&self, key: &RecordKey, fingerprint: Fingerprint) -> StoreResult<Fingerprint> {
        let Some(record) = self.record(key).await? else { return Ok(fingerprint) };
        let forgives = match (self.bug, &record.state) {
            (Some(Bug::MismatchUncheckedWhenRunning), State::Running { .. })
            | (Some(Bug::MismatchUncheckedWhenLapsed), State::Lapsed)
            | (Some(Bug::MismatchUncheckedWhenDone), State::Done(_)) => true,
            (Some(Bug::MismatchByTheFirstBytes), _) => {
                record.fingerprint.as_bytes()[..8] == fingerprint.as_bytes()[..8]
            }
            _ => false,
        };
        Ok(if forgives { record.fingerprint } else { fingerprint })
    }

    async fn mutant_claim(&self, key: &RecordKey, request: &ClaimRequest) -> StoreResult<ClaimOutcome> {
        let key = &self.place(key);
        let mut request = request.clone();
        request.fingerprint = self.forgiven(key, request.fingerprint).await?;
        let repeated = !self.seen().claims.insert((key.clone(), request.nonce));
        match self.bug {
            Some(Bug::RepeatedClaimIsAStranger) if repeated => request.nonce = Nonce::random(),
            Some(Bug::SuspendedClaimIsGrantedAgain) if self.is_suspended(key).await? => request.nonce = Nonce::random(),
            Some(Bug::TakesOverAnyway) => request.take_over = TakeOver::Always,
            Some(Bug::NeverTakesOver) => request.take_over = TakeOver::Never,
            Some(Bug::TakesOverHeldKeys) if request.take_over == TakeOver::UnlessHeld => {
                request.take_over = TakeOver::Always;
            }
            Some(Bug::HoldBindsAlways) if request.take_over == TakeOver::Always => {
                request.take_over = TakeOver::UnlessHeld;
            }
            Some(Bug::FailedIsRefused)
                if request.take_over == TakeOver::Never
                    && self.record(key).await?.is_some_and(|record| record.state == State::Failed) =>
            {
                return Ok(ClaimOutcome::abandoned(1));
            }
            Some(Bug::LeaseEndsEarly) => request.lease -= TICK,
            Some(Bug::LeaseEndsLate) => request.lease += TICK,
            Some(Bug::RunningRecordHasNoTtl) => request.ttl = Duration::ZERO,
            Some(Bug::TakeoverKeepsArguments) => {
                request.arguments = self.record(key).await?.map_or(request.arguments, |record| record.arguments);
            }
            Some(Bug::TakeoverKeepsContext) => {
                request.context = self.record(key).await?.map_or(request.context, |record| record.context);
            }
            Some(Bug::ContextsAreCut) => {
                request.context = request.context.map(|text| text.chars().take(255).collect::<String>().into());
            }
            Some(Bug::ArgumentsAreMadeUp) => request.arguments = request.arguments.or(Some(Bytes::new())),
            Some(Bug::ArgumentsAreCut) => {
                request.arguments = request.arguments.map(|bytes| bytes.slice(..bytes.len().min(65_535)));
            }
            Some(Bug::ArgumentsOutliveTheirRecord | Bug::MismatchChangesArguments) => {
                self.seen().arguments.extend(request.arguments.clone().map(|bytes| (key.clone(), bytes)));
            }
            Some(Bug::ChecksThenActs) if self.record(key).await?.is_none() => {
                tokio::task::yield_now().await;
                self.store.forget(key).await?;
            }
            _ => {}
        }
        let answer = self.store.claim(key, &request).await?;
        Ok(match answer {
            ClaimOutcome::Suspended { attempt, .. } if self.is(Bug::SuspendedIsAbandoned) => {
                ClaimOutcome::abandoned(attempt)
            }
            ClaimOutcome::InFlight { .. } if self.is(Bug::RetryAfterZero) => ClaimOutcome::in_flight(Duration::ZERO),
            ClaimOutcome::Claimed { token, attempt, past, .. } => self.granted(key, token, attempt, past, repeated),
            other => other,
        })
    }

    fn granted(
        &self,
        key: &RecordKey,
        mut token: Token,
        mut attempt: u32,
        mut past: Past,
        repeated: bool,
    ) -> ClaimOutcome {
        let mut seen = self.seen();
        seen.owners.insert(key.clone(), token);
        match self.bug {
            Some(Bug::RepeatedClaimIsANewAttempt) if repeated => attempt += 1,
            Some(Bug::AttemptsUncounted) => attempt = 1,
            Some(Bug::ReopenedCountsOn) if seen.resolved.contains(key) => attempt += 1,
            Some(Bug::AttemptsNeverReset) if !repeated => {
                let attempts = seen.attempts.entry(key.clone()).or_default();
                *attempts += 1;
                attempt = *attempts;
            }
            Some(Bug::PastIsForgotten) if repeated => past = Past::none(token.nonce),
            Some(Bug::FailedLooksAbandoned) if past.before == Before::Failed => {
                past.before = Before::abandoned(Duration::ZERO);
            }
            Some(Bug::AbandonedJustNow) if matches!(past.before, Before::Abandoned { .. }) => {
                past.before = Before::abandoned(Duration::ZERO);
            }
            Some(Bug::FailuresAreNotCounted) => past.failed = 0,
            Some(Bug::GenerationIsOfTheClaim) => past.generation = token.nonce.into(),
            Some(Bug::StepsAreHidden) => past.has_steps = false,
            // These answer when they are asked.
            Some(Bug::FenceIsConstant | Bug::FenceRestartsWhenForgotten | Bug::FenceIsMadeAnew) => token.fence = None,
            _ => {}
        }
        ClaimOutcome::claimed(token, attempt, past)
    }

    async fn mutant_renew(
        &self,
        key: &RecordKey,
        token: &Token,
        mut lease: Duration,
        mut ttl: Duration,
    ) -> StoreResult<Transition> {
        let key = &self.place(key);
        match self.bug {
            Some(Bug::RenewDoesNothing) => {
                let owned = self.store.fence(key, token).await?.is_some();
                return Ok(if owned { Transition::Applied } else { Transition::Lost });
            }
            Some(Bug::RenewOfLapsedIsLost) if self.is_lapsed(key).await? => return Ok(Transition::Lost),
            Some(Bug::RenewHasNoTtl) => ttl = Duration::ZERO,
            Some(Bug::RenewOnlyProlongs) => {
                if let Some(State::Running { lease_left, .. }) = self.record(key).await?.map(|record| record.state) {
                    lease = lease.max(lease_left);
                }
            }
            _ => {}
        }
        let answer = self.store.renew(key, token, lease, ttl).await?;
        self.seen().renewed.insert(key.clone());
        match self.owner(key).filter(|_| self.is(Bug::RenewIgnoresOwner)) {
            Some(owner) if answer == Transition::Lost => self.store.renew(key, &owner, lease, ttl).await,
            _ => Ok(answer),
        }
    }

    fn owner(&self, key: &RecordKey) -> Option<Token> {
        self.seen().owners.get(key).copied()
    }

    fn mutated(&self, outcome: &Outcome) -> Outcome {
        match (self.bug, outcome) {
            (Some(Bug::ErrBecomesOk), Outcome::Err(bytes)) => Outcome::Ok(bytes.clone()),
            (Some(Bug::EmptyIsUnavailable), Outcome::Ok(bytes)) if bytes.is_empty() => {
                Outcome::NotKept(NotKept::NotSerializable)
            }
            (Some(Bug::LossyText), Outcome::Ok(bytes)) => {
                Outcome::Ok(String::from_utf8_lossy(bytes).into_owned().into())
            }
            (Some(Bug::LongResultsAreCut), Outcome::Ok(bytes)) => Outcome::Ok(bytes.slice(..bytes.len().min(65_535))),
            (Some(Bug::ReasonIsLost), Outcome::NotKept(_)) => Outcome::NotKept(NotKept::TooLarge),
            _ => outcome.clone(),
        }
    }

    async fn mutant_complete(
        &self,
        key: &RecordKey,
        token: &Token,
        outcome: &Outcome,
        mut ttl: Duration,
    ) -> StoreResult<Transition> {
        let key = &self.place(key);
        let outcome = &self.mutated(outcome);
        let repeated = !self.seen().completions.insert(token.nonce);
        match self.bug {
            Some(Bug::CompleteRepeatIsLost) if repeated => return Ok(Transition::Lost),
            Some(Bug::CompleteOfLapsedIsLost) if self.is_lapsed(key).await? => return Ok(Transition::Lost),
            Some(Bug::DoneKeptTooShort) => ttl -= TICK,
            Some(Bug::DoneKeptTooLong) => ttl += TICK,
            _ => {}
        }
        if *outcome == Outcome::Exhausted {
            self.seen().exhausted.insert(key.clone());
        }
        let answer = self.store.complete(key, token, outcome, ttl).await?;
        let record = self.record(key).await?;
        let Some((record, owner)) = record.zip(self.owner(key)) else { return Ok(answer) };
        match self.bug {
            Some(Bug::CompleteIgnoresOwner) if answer == Transition::Lost => {
                return self.store.complete(key, &owner, outcome, ttl).await;
            }
            Some(Bug::ResolvedIsTheOwners) if answer == Transition::Lost && self.seen().resolved.contains(key) => {
                return self.store.complete(key, &Token::new(record.owner), outcome, ttl).await;
            }
            Some(Bug::CompleteRevivesAbandoned)
                if record.state == State::Abandoned && owner.nonce == token.nonce && answer == Transition::Lost =>
            {
                self.store.forget(key).await?;
                return self.overwrite(key, token, record, outcome, ttl).await;
            }
            Some(Bug::CompleteRepeatOverwrites) if repeated && answer == Transition::Applied => {
                self.store.forget(key).await?;
                return self.overwrite(key, token, record, outcome, ttl).await;
            }
            _ => {}
        }
        let finished = self.store.peek(key);
        self.seen().results.extend(finished.map(|finished| (key.clone(), finished)));
        Ok(answer)
    }

    async fn overwrite(
        &self,
        key: &RecordKey,
        token: &Token,
        record: Record,
        outcome: &Outcome,
        ttl: Duration,
    ) -> StoreResult<Transition> {
        let (fingerprint, nonce) = (record.fingerprint, token.nonce);
        let again = ClaimRequest::new(fingerprint, nonce, ttl, ttl).with_arguments(record.arguments);
        self.store.claim(key, &again).await?;
        self.store.complete(key, &Token::new(nonce), outcome, ttl).await
    }

    async fn mutant_release(&self, key: &RecordKey, token: &Token, keep: Duration) -> StoreResult<Transition> {
        let key = &self.place(key);
        match self.bug {
            Some(Bug::ReleaseOfVacantIsLost) if self.record(key).await?.is_none() => Ok(Transition::Lost),
            Some(Bug::ReleaseAbandons) => {
                let answer = self.store.suspend(key, token, Why::Abandoned, Duration::ZERO, keep).await?;
                Ok(if answer == Suspension::Applied { Transition::Applied } else { Transition::Lost })
            }
            Some(Bug::ReleaseIgnoresOwner) => {
                self.store.forget(key).await?;
                Ok(Transition::Applied)
            }
            Some(Bug::ReleaseForgetsSteps) if self.store.steps(key, token).await?.is_some() => {
                self.store.forget(key).await?;
                Ok(Transition::Applied)
            }
            _ => self.store.release(key, token, keep).await,
        }
    }

    async fn mutant_suspend(
        &self,
        key: &RecordKey,
        token: &Token,
        mut why: Why,
        mut not_before: Duration,
        mut keep: Duration,
    ) -> StoreResult<Suspension> {
        let key = &self.place(key);
        let repeated = !self.seen().suspensions.insert(token.nonce);
        match self.bug {
            Some(Bug::SuspendRepeatIsTaken) if repeated => return Ok(Suspension::Taken),
            Some(Bug::SuspendReleases) => {
                let answer = self.store.release(key, token, keep).await?;
                return Ok(if answer == Transition::Applied { Suspension::Applied } else { Suspension::Taken });
            }
            Some(Bug::SuspendedKeptTooLong) => keep += TICK,
            Some(Bug::KeptFromNowOn) => keep = keep.saturating_sub(not_before),
            Some(Bug::NotBeforeIsEarly) => not_before = not_before.saturating_sub(TICK),
            Some(Bug::FailedIsAbandoned) if why == Why::Failed => why = Why::Abandoned,
            Some(Bug::UnstartedCounts) if why == Why::Unstarted => why = Why::Abandoned,
            Some(Bug::UnstartedFails) if why == Why::Unstarted => why = Why::Failed,
            _ => {}
        }
        let answer = self.store.suspend(key, token, why, not_before, keep).await?;
        match (answer, self.owner(key)) {
            (Suspension::Taken, Some(owner)) if self.is(Bug::SuspendIgnoresOwner) => {
                self.store.suspend(key, &owner, why, not_before, keep).await
            }
            (Suspension::Ended { .. }, _) if self.is(Bug::EndedIsTaken) => Ok(Suspension::Taken),
            (Suspension::Ended { how, by_us: true, .. }, _) if self.is(Bug::OwnEndIsAnothers) => {
                Ok(Suspension::ended(how, false))
            }
            (answer, _) => Ok(answer),
        }
    }

    async fn mutant_append(
        &self,
        key: &RecordKey,
        token: &Token,
        step: &Step,
        mut lease: Duration,
        ttl: Duration,
    ) -> StoreResult<Appended> {
        let key = &self.place(key);
        match self.bug {
            Some(Bug::AppendDoesNotRenew) => {
                let record = self.record(key).await?.map(|record| record.state);
                if let Some(State::Running { lease_left, .. }) = record {
                    lease = lease_left;
                }
            }
            Some(Bug::StepsAreCut) => {
                let value = step.value.clone().map(|bytes| bytes.slice(..bytes.len().min(65_535)));
                return self.store.append(key, token, &Step::new(step.name.clone(), value), lease, ttl).await;
            }
            _ => {}
        }
        let answer = self.store.append(key, token, step, lease, ttl).await?;
        match (answer, self.owner(key)) {
            (Appended::Lost, Some(owner)) if self.is(Bug::AppendIgnoresOwner) => {
                self.store.append(key, &owner, step, lease, ttl).await
            }
            (Appended::Recorded(_), _) if self.is(Bug::LaterStepCounts) => Ok(Appended::Applied),
            (answer, _) => Ok(answer),
        }
    }

    async fn mutant_steps(&self, key: &RecordKey, token: &Token) -> StoreResult<Option<Vec<Step>>> {
        let key = &self.place(key);
        let steps = self.store.steps(key, token).await?;
        Ok(match self.bug {
            Some(Bug::ExhaustionForgetsSteps) if self.seen().exhausted.contains(key) => steps.map(|_| Vec::new()),
            Some(Bug::StepsAreSorted) => steps.map(|mut steps| {
                steps.sort_by(|one, other| one.name.cmp(&other.name));
                steps
            }),
            Some(Bug::StepsOfAnyClaim) if steps.is_none() => match self.owner(key) {
                Some(owner) => self.store.steps(key, &owner).await?,
                None => None,
            },
            Some(Bug::StepsOutliveTheirLife) => {
                let mut seen = self.seen();
                let journal = seen.journals.entry(key.clone()).or_default();
                for step in steps.iter().flatten() {
                    if !journal.iter().any(|known| known.name == step.name) {
                        journal.push(step.clone());
                    }
                }
                steps.map(|_| journal.clone())
            }
            _ => steps,
        })
    }

    async fn mutant_fence(&self, key: &RecordKey, token: &Token) -> StoreResult<Option<u64>> {
        let key = &self.place(key);
        let answer = self.store.fence(key, token).await?;
        match (self.bug, answer) {
            (Some(Bug::FenceIsConstant), Some(_)) => Ok(Some(7)),
            (Some(Bug::FenceIsMadeAnew), Some(fence)) => {
                let mut seen = self.seen();
                seen.fences_made += 1;
                Ok(Some(fence + seen.fences_made))
            }
            (Some(Bug::FenceRestartsWhenForgotten), Some(fence)) => {
                Ok(Some(fence - self.seen().fence_base.get(key).copied().unwrap_or_default()))
            }
            (Some(Bug::FenceIgnoresOwner), None) => match self.owner(key) {
                Some(owner) => self.store.fence(key, &owner).await,
                None => Ok(None),
            },
            (_, answer) => Ok(answer),
        }
    }

    async fn mutant_forget(&self, key: &RecordKey) -> StoreResult<bool> {
        let key = &self.place(key);
        if self.is(Bug::ForgetNeverFrees) {
            return Ok(self.record(key).await?.is_some());
        }
        if self.is(Bug::FenceRestartsWhenForgotten) {
            let mut seen = self.seen();
            let last = seen.owners.get(key).and_then(|token| token.fence).unwrap_or_default();
            seen.fence_base.insert(key.clone(), last);
        }
        Ok(self.store.forget(key).await? && !self.is(Bug::ForgetIsDenied))
    }

    async fn mutant_resolve(&self, key: &RecordKey, request: &ResolveRequest) -> StoreResult<Resolved> {
        let (key, mut request) = (&self.place(key), request.clone());
        match self.bug {
            Some(Bug::ResolvesTheLiving) => request.even_if_alive = true,
            Some(Bug::ResolvesUnseen) => {
                request.seen = self.record(key).await?.map_or(request.seen, |record| record.seen());
            }
            Some(Bug::ResolvedKeptTooLong) => request.keep += TICK,
            Some(Bug::ResolveRepeatIsChanged) if !self.seen().resolutions.insert(request.nonce) => {
                return Ok(Resolved::Changed);
            }
            _ => {}
        }
        self.seen().resolved.insert(key.clone());
        self.store.resolve(key, &request).await
    }

    async fn mutant_inspect(&self, key: &RecordKey) -> StoreResult<Option<Record>> {
        let mut record = self.record(&self.place(key)).await?;
        if let Some(record) = &mut record {
            record.key = key.clone();
            self.disarrange(record);
            match (self.bug, &record.state) {
                (Some(Bug::LapsedIsShownRunning), State::Lapsed) => record.state = State::running(TICK),
                (Some(Bug::LapsedIsShownAbandoned), State::Lapsed) => record.state = State::Abandoned,
                (Some(Bug::AbandonedIsShownLapsed), State::Abandoned) => record.state = State::Lapsed,
                _ => {}
            }
        }
        Ok(record)
    }

    /// Shows other arguments than were recorded.
    fn disarrange(&self, record: &mut Record) {
        let seen = self.seen();
        match (self.bug, &record.state) {
            (Some(Bug::CompleteDropsArguments), State::Done(_))
            | (Some(Bug::AbandonDropsArguments), State::Abandoned) => record.arguments = None,
            (Some(Bug::ResolveForgetsTheWord), _) if seen.resolved.contains(&record.key) => record.context = None,
            (Some(Bug::ResolveDropsArguments), _) if seen.resolved.contains(&record.key) => record.arguments = None,
            (Some(Bug::RenewDropsArguments), _) if seen.renewed.contains(&record.key) => record.arguments = None,
            (Some(Bug::ArgumentsOutliveTheirRecord), _) if record.arguments.is_none() => {
                record.arguments = seen.arguments.get(&record.key).cloned();
            }
            (Some(Bug::MismatchChangesArguments), _) if record.arguments.is_some() => {
                record.arguments = seen.arguments.get(&record.key).cloned();
            }
            _ => {}
        }
    }

    async fn mutant_list(&self, operation: Option<&str>, after: Option<&Cursor>, limit: usize) -> StoreResult<Page> {
        let operation = operation.filter(|_| !self.is(Bug::ListIgnoresOperation));
        let mut page = self.store.list(operation, after, limit).await?;
        if self.is(Bug::ListsOnePage) {
            page.next = None;
        }
        if self.is(Bug::ListSkipsAbandoned) {
            page.records.retain(|record| record.state != State::Abandoned);
        }
        Ok(page)
    }

    async fn mutant_purge(&self, limit: usize) -> StoreResult<usize> {
        match self.bug {
            Some(Bug::PurgeIgnoresLimit) => self.store.purge_expired(usize::MAX).await,
            Some(Bug::PurgesTheLapsed) => {
                for record in self.store.list(None, None, usize::MAX).await?.records {
                    if record.state == State::Lapsed {
                        self.store.forget(&record.key).await?;
                    }
                }
                self.store.purge_expired(limit).await
            }
            _ => self.store.purge_expired(limit).await,
        }
    }

    /// Wakes the subscribers after an applied step.
    fn wake<T: PartialEq>(&self, key: &RecordKey, answer: StoreResult<T>, applied: &T, silent: Bug) -> StoreResult<T> {
        if answer.as_ref().is_ok_and(|answer| answer == applied) && !self.is(silent) {
            self.subscribers.notify(key.as_str());
        }
        answer
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl Store for Mutant {
    async fn claim(&self, key: &RecordKey, request: &ClaimRequest) -> StoreResult<ClaimOutcome> {
        self.mutant_claim(key, request).await
    }

    async fn renew(&self, key: &RecordKey, token: &Token, lease: Duration, ttl: Duration) -> StoreResult<Transition> {
        self.mutant_renew(key, token, lease, ttl).await
    }

    async fn complete(
        &self,
        key: &RecordKey,
        token: &Token,
        outcome: &Outcome,
        ttl: Duration,
    ) -> StoreResult<Transition> {
        let answer = self.mutant_complete(key, token, outcome, ttl).await;
        self.wake(key, answer, &Transition::Applied, Bug::CompleteIsSilent)
    }

    async fn release(&self, key: &RecordKey, token: &Token, keep: Duration) -> StoreResult<Transition> {
        let answer = self.mutant_release(key, token, keep).await;
        self.wake(key, answer, &Transition::Applied, Bug::ReleaseIsSilent)
    }

    async fn suspend(
        &self,
        key: &RecordKey,
        token: &Token,
        why: Why,
        not_before: Duration,
        keep: Duration,
    ) -> StoreResult<Suspension> {
        let answer = self.mutant_suspend(key, token, why, not_before, keep).await;
        self.wake(key, answer, &Suspension::Applied, Bug::SuspendIsSilent)
    }

    async fn append(
        &self,
        key: &RecordKey,
        token: &Token,
        step: &Step,
        lease: Duration,
        ttl: Duration,
    ) -> StoreResult<Appended> {
        self.mutant_append(key, token, step, lease, ttl).await
    }

    async fn steps(&self, key: &RecordKey, token: &Token) -> StoreResult<Option<Vec<Step>>> {
        self.mutant_steps(key, token).await
    }

    async fn fence(&self, key: &RecordKey, token: &Token) -> StoreResult<Option<u64>> {
        self.mutant_fence(key, token).await
    }

    async fn forget(&self, key: &RecordKey) -> StoreResult<bool> {
        let answer = self.mutant_forget(key).await;
        self.wake(key, answer, &true, Bug::ForgetIsSilent)
    }

    async fn resolve(&self, key: &RecordKey, request: &ResolveRequest) -> StoreResult<Resolved> {
        let answer = self.mutant_resolve(key, request).await;
        self.wake(key, answer, &Resolved::Applied, Bug::ResolveIsSilent)
    }

    async fn inspect(&self, key: &RecordKey) -> StoreResult<Option<Record>> {
        self.mutant_inspect(key).await
    }

    async fn list(&self, operation: Option<&str>, after: Option<&Cursor>, limit: usize) -> StoreResult<Page> {
        self.mutant_list(operation, after, limit).await
    }

    async fn purge_expired(&self, limit: usize) -> StoreResult<usize> {
        self.mutant_purge(limit).await
    }

    async fn subscribe(&self, key: &RecordKey) -> StoreResult<Subscription> {
        Ok(self.subscribers.subscribe(key).0)
    }

    fn dead_letters(&self) -> Option<&dyn DeadLetters> {
        None
    }

    fn transactional(&self) -> Option<&dyn Transactional> {
        None
    }

    fn immediate(&self) -> Option<&dyn Immediate> {
        // Others break their promise in the usual steps.
        let breaks = self.is(Bug::ClaimsAtOnceAreMadeUp) || self.is(Bug::CompletionsAtOnceAreMadeUp);
        breaks.then_some(&self.at_once)
    }

    fn peek(&self, key: &RecordKey) -> Option<Finished> {
        if self.is(Bug::PeekIsStale) {
            return self.seen().results.get(key).cloned();
        }
        self.store.peek(&self.place(key))
    }

    fn at_hand(&self, key: &RecordKey) -> Option<Finished> {
        self.peek(key)
    }
}
