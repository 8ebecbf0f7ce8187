//! The memory store's form of a record.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;

use super::{
    inline_bytes::{Beside, Packed},
    life::{Life, Rest, RestKind},
    usage::Size,
};
use crate::{
    codec::compact,
    request::fingerprint::Fingerprint,
    store::{
        ClaimRequest, Finished, Nonce, NotKept, Outcome, Past, Record, RecordKey, ResolveRequest, State, Step, Token,
        Why, memory::clock::Moment,
    },
};

/// A record: 352 bytes, with its link in the table.
pub(super) struct MemoryEntry {
    key_len: u32,
    attempt: u32,
    expires: Moment,
    phase: EntryState,
    fingerprint: Fingerprint,
    nonce: Nonce,
    fence: u64,
    /// `None` where the key was run once and without steps.
    life: Option<Box<Life>>,
    /// The key, followed by the result, and what lies beside them.
    packed: Packed,
}

/// The state of a record. A lapsed record is still `Running` here: only the clock tells that it has lapsed.
#[derive(Clone, Copy)]
pub(super) enum EntryState {
    Running { lease_end: Moment },
    Suspended(RestKind),
    Done(OutcomeKind),
}

/// An outcome without its bytes.
#[derive(Clone, Copy)]
pub(super) enum OutcomeKind {
    Ok,
    Err,
    NotKept(NotKept),
    Exhausted,
    Dead,
}

/// An outcome that is ready to be kept.
pub(super) struct Kept<'a> {
    kind: OutcomeKind,
    result: &'a [u8],
    /// The key and the result, where they will stay; `None` if they are short enough for the record itself.
    apart: Option<Bytes>,
}

impl<'a> Kept<'a> {
    pub(super) fn new(key: &RecordKey, outcome: &'a Outcome) -> Self {
        let (kind, result): (_, &[u8]) = match outcome {
            Outcome::Ok(bytes) => (OutcomeKind::Ok, bytes),
            Outcome::Err(bytes) => (OutcomeKind::Err, bytes),
            Outcome::NotKept(why) => (OutcomeKind::NotKept(*why), &[]),
            Outcome::Exhausted => (OutcomeKind::Exhausted, &[]),
            Outcome::Dead => (OutcomeKind::Dead, &[]),
        };
        Self { kind, result, apart: Packed::apart(key.as_str(), result) }
    }
}

impl MemoryEntry {
    /// The record of a vacant key's claim; `None` for a key of 4 GiB or more.
    pub(super) fn new(
        key: &RecordKey,
        request: &ClaimRequest,
        beside: Beside,
        now: Moment,
        fence: u64,
    ) -> Option<Self> {
        let lease_end = now.plus(request.lease);
        Some(Self {
            packed: Packed::new(key.as_str(), beside),
            key_len: u32::try_from(key.as_str().len()).ok()?,
            attempt: 1,
            expires: lease_end.plus(request.ttl),
            phase: EntryState::Running { lease_end },
            fingerprint: request.fingerprint,
            nonce: request.nonce,
            fence,
            life: None,
        })
    }

    /// Begins the next attempt of a suspended or lapsed record.
    pub(super) fn take_over(&mut self, request: &ClaimRequest, now: Moment, fence: u64) {
        let vanished = match self.phase {
            EntryState::Running { lease_end } => Some(Rest { kind: RestKind::Abandoned, since: lease_end }),
            EntryState::Suspended(_) | EntryState::Done(_) => None,
        };
        let life = self.life_mut();
        life.before = vanished.or(life.rest.take());
        life.not_before = None;
        self.attempt = self.attempt.saturating_add(1);
        self.nonce = request.nonce;
        self.fence = fence;
        self.put_beside(Beside::of(request));
        self.run_for(request.lease, request.ttl, now);
    }

    /// Drops the result, if there is one.
    fn put_beside(&mut self, beside: Beside) {
        let is_bare = self.packed.bytes().len() == self.key_len as usize;
        if (!is_bare || *self.packed.beside() != beside)
            && let Some(packed) = self.key().map(|key| Packed::new(key, beside))
        {
            self.packed = packed;
        }
    }

    pub(super) fn run_for(&mut self, lease: Duration, ttl: Duration, now: Moment) {
        let lease_end = now.plus(lease);
        self.phase = EntryState::Running { lease_end };
        self.expires = lease_end.plus(ttl);
    }

    pub(super) fn finish(&mut self, kept: Kept<'_>, expires: Moment) {
        match kept.apart {
            Some(apart) => self.packed.replace(apart),
            None => self.packed.append(kept.result),
        }
        self.phase = EntryState::Done(kept.kind);
        self.expires = expires;
        // An operator may have an exhausted key run again, after its last step.
        if !matches!(kept.kind, OutcomeKind::Exhausted) {
            self.forget_steps();
        }
    }

    fn forget_steps(&mut self) {
        if let Some(life) = &mut self.life {
            life.forget_steps();
        }
    }

    /// Suspends a run, and says whether there is still a record: a first run that never started leaves none.
    pub(super) fn suspend(&mut self, why: Why, now: Moment, not_before: Moment, keep: Duration) -> bool {
        let attempt = self.attempt;
        let life = self.life_mut();
        let (rest, attempt) = match why {
            Why::Abandoned => (Some(Rest { kind: RestKind::Abandoned, since: now }), attempt),
            Why::Failed => {
                life.failed = life.failed.saturating_add(1);
                (Some(Rest { kind: RestKind::Failed, since: now }), attempt)
            }
            Why::Unstarted => (life.before, attempt.saturating_sub(1)),
        };
        let Some(rest) = rest else { return false };
        life.before = None;
        life.rest = Some(rest);
        life.not_before = (not_before > now).then_some(not_before);
        self.attempt = attempt;
        self.phase = EntryState::Suspended(rest.kind);
        self.expires = not_before.plus(keep);
        true
    }

    /// Leaves the record as an operator says. `kept` is its outcome; without one it is as before its first run.
    pub(super) fn resolve(&mut self, request: &ResolveRequest, kept: Option<Kept<'_>>, now: Moment) {
        let life = self.life_mut();
        life.before = None;
        life.not_before = None;
        self.nonce = request.nonce;
        let arguments = self.packed.beside().arguments.clone();
        self.put_beside(Beside { arguments, context: Some(Arc::clone(&request.context)) });
        let expires = now.plus(request.keep);
        if let Some(kept) = kept {
            self.finish(kept, expires);
            self.forget_steps();
            return;
        }
        let life = self.life_mut();
        life.rest = Some(Rest { kind: RestKind::Failed, since: now });
        life.failed = 0;
        self.attempt = 0;
        self.phase = EntryState::Suspended(RestKind::Failed);
        self.expires = expires;
    }

    /// Records a step, unless there is one of its name; renews the lease. `None` if this claim's is recorded, else the value
    /// that an earlier attempt has recorded.
    pub(super) fn append(&mut self, step: &Step) -> Option<Result<Bytes, NotKept>> {
        let nonce = self.nonce;
        let life = self.life_mut();
        match life.step(&step.name) {
            Some((by, _)) if by == nonce => None,
            Some((_, value)) => Some(value.clone()),
            None => {
                life.append(nonce, step.clone());
                None
            }
        }
    }

    fn life_mut(&mut self) -> &mut Life {
        let nonce = self.nonce;
        self.life.get_or_insert_with(|| Box::new(Life::of(nonce)))
    }

    /// The life of the key before the claim that has it.
    pub(super) fn past(&self, now: Moment) -> Past {
        self.life.as_ref().map_or_else(|| Past::none(self.nonce), |life| life.past(now))
    }

    /// The time until somebody may take over; `None` if that is now.
    pub(super) fn suspended_for(&self, now: Moment) -> Option<Duration> {
        let not_before = self.life.as_ref()?.not_before?;
        (not_before > now).then(|| now.until(not_before))
    }

    pub(super) fn has_steps(&self) -> bool {
        self.life.as_ref().is_some_and(|life| life.has_steps())
    }

    pub(super) fn steps(&self) -> Vec<Step> {
        self.life.as_ref().map(|life| life.steps().cloned().collect()).unwrap_or_default()
    }

    pub(super) fn has_key(&self, key: &str) -> bool {
        self.key_len as usize == key.len() && self.packed.bytes().starts_with(key.as_bytes())
    }

    pub(super) fn is_owned_by(&self, token: &Token) -> bool {
        self.nonce == token.nonce && token.fence.is_none_or(|fence| fence == self.fence)
    }

    pub(super) const fn phase(&self) -> EntryState {
        self.phase
    }

    pub(super) const fn expires(&self) -> Moment {
        self.expires
    }

    pub(super) const fn fingerprint(&self) -> &Fingerprint {
        &self.fingerprint
    }

    pub(super) const fn attempt(&self) -> u32 {
        self.attempt
    }

    pub(super) fn token(&self) -> Token {
        Token::new(self.nonce).with_fence(self.fence)
    }

    /// The bytes of its key, result, steps and what lies beside them, and whether it is held, as counted against the limits.
    pub(super) fn size(&self) -> Size {
        let bytes =
            self.packed.bytes().len() + self.packed.beside().len() + self.life.as_ref().map_or(0, |life| life.bytes());
        let is_done = matches!(self.phase, EntryState::Done(_));
        Size { bytes, is_held: !is_done && Self::is_endless(self.expires) }
    }

    /// True if nobody lives to see this moment. It is counted from when the store began, and not from now on, so that a
    /// record is always counted out as it was counted in.
    pub(super) fn is_endless(expires: Moment) -> bool {
        expires > Moment::since_start(ClaimRequest::HELD)
    }

    fn key(&self) -> Option<&str> {
        str::from_utf8(self.packed.bytes().get(..self.key_len as usize)?).ok()
    }

    pub(super) fn finished(&self) -> Option<Finished> {
        let EntryState::Done(kind) = self.phase else { return None };
        Some(Finished::new(self.fingerprint, self.attempt, self.outcome(kind)))
    }

    /// The record as an operator sees it.
    pub(super) fn record(&self, now: Moment) -> Option<Record> {
        let state = match self.phase {
            EntryState::Running { lease_end } if now < lease_end => State::running(now.until(lease_end)),
            EntryState::Running { .. } => State::Lapsed,
            EntryState::Suspended(RestKind::Failed) => State::Failed,
            EntryState::Suspended(RestKind::Abandoned) => State::Abandoned,
            EntryState::Done(kind) => State::Done(compact::shown(self.outcome(kind))),
        };
        let (key, expires_in) = (self.key()?.parse().ok()?, now.until(self.expires));
        let Beside { arguments, context } = self.packed.beside().clone();
        let Past { generation, failed, .. } = self.past(now);
        let (fingerprint, owner, attempt) = (self.fingerprint, self.nonce, self.attempt);
        let record = Record::new(key, fingerprint, generation, owner, attempt, state, expires_in);
        let record = record.with_failed(failed).with_not_before(self.suspended_for(now));
        Some(record.with_arguments(arguments).with_context(context))
    }

    fn outcome(&self, kind: OutcomeKind) -> Outcome {
        let result = || self.packed.tail(self.key_len as usize);
        match kind {
            OutcomeKind::Ok => Outcome::Ok(result()),
            OutcomeKind::Err => Outcome::Err(result()),
            OutcomeKind::NotKept(why) => Outcome::NotKept(why),
            OutcomeKind::Exhausted => Outcome::Exhausted,
            OutcomeKind::Dead => Outcome::Dead,
        }
    }
}
