//! Random steps on the store and on the simplest thing that could be right.

use std::{collections::HashMap, sync::Arc, time::Duration};

use bytes::Bytes;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

use super::subject::{OTHER_PRINT, PRINT, Subject, TAKE_OVER, claim, inspect};
use crate::{
    Fingerprint, Store,
    store::{
        Appended, Before, ClaimOutcome, ClaimRequest, Finished, Generation, Nonce, NotKept, Outcome, RecordKey,
        Resolution, ResolveRequest, Resolved, State, Step, Suspension, TakeOver, Token, Transition, Why,
    },
};

/// As many ticks as no sequence lasts.
const LONG: u32 = 1_000_000;
const KEYS: usize = 3;

pub(super) async fn random_steps_agree_with_the_model(subject: &Subject) {
    let seed = match std::env::var("CONFORMANCE_SEED") {
        Ok(seed) => seed.parse().expect("CONFORMANCE_SEED is a number"),
        Err(_) => rand::random(),
    };
    // Shown by the test harness when the rule fails.
    println!("CONFORMANCE_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let (sequences, steps) = if subject.is_exact() { (200, 60) } else { (3, 20) };
    for sequence in 0..sequences {
        let mut run = Run::new(subject, sequence);
        for _ in 0..steps {
            run.step(&mut random).await;
        }
    }
}

/// The model's record of a key. Times are in ticks.
#[derive(Clone, Debug)]
struct Entry {
    fingerprint: Fingerprint,
    nonce: Nonce,
    attempt: u32,
    expires: u32,
    arguments: Option<Bytes>,
    context: Option<Arc<str>>,
    phase: ModelState,
    generation: Generation,
    failed: u32,
    before: ModelBefore,
    not_before: u32,
    steps: Vec<(Nonce, Step)>,
}

#[derive(Clone, Debug)]
enum ModelState {
    Running { lease_end: u32 },
    Suspended(ModelBefore),
    Done(Outcome),
}

/// The end of the run before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ModelBefore {
    Fresh,
    Failed { since: u32 },
    Abandoned { since: u32 },
}

/// A sequence of steps: the model of a few keys, and their claims.
struct Run<'a> {
    subject: &'a Subject,
    keys: Vec<RecordKey>,
    entries: Vec<Option<Entry>>,
    /// The claims that were granted or asked for, current and former, of each key.
    nonces: Vec<Vec<Nonce>>,
    fences: Vec<Fences>,
    now: u32,
    /// A step set a deadline that real time may not sit on.
    near: bool,
}

#[derive(Default)]
struct Fences {
    highest: u64,
    by_claim: HashMap<(Nonce, u32), u64>,
}

impl<'a> Run<'a> {
    fn new(subject: &'a Subject, sequence: usize) -> Self {
        Self {
            subject,
            keys: (0..KEYS).map(|number| subject.key(format_args!("{sequence}-{number}"))).collect(),
            entries: vec![None; KEYS],
            nonces: vec![Vec::new(); KEYS],
            fences: (0..KEYS).map(|_| Fences::default()).collect(),
            now: 0,
            near: false,
        }
    }

    async fn step(&mut self, random: &mut StdRng) {
        let number = random.random_range(0..KEYS);
        let store = self.subject.both()[random.random_range(0..2)];
        let key = self.keys[number].clone();
        let token = Token::new(self.nonce(random, number));
        match random.random_range(0..16) {
            0..=3 => self.claim(random, number, store, token.nonce).await,
            4 => {
                let (lease, ttl) = (self.ticks(random), self.ticks(random));
                let answer = store.renew(&key, &token, self.time(lease), self.time(ttl)).await.expect("renew");
                assert_eq!(answer, self.renew(number, token.nonce, lease, ttl), "renew");
            }
            5 | 6 => {
                let (outcome, ttl) = (outcome(random), self.ticks(random));
                let answer = match store.immediate().filter(|_| random.random()) {
                    Some(store) => store.complete(&key, &token, &outcome, self.time(ttl)),
                    None => store.complete(&key, &token, &outcome, self.time(ttl)).await,
                };
                let answer = answer.expect("complete");
                assert_eq!(answer, self.complete(number, token.nonce, outcome, ttl), "complete");
            }
            7 => {
                let keep = self.ticks(random);
                let answer = store.release(&key, &token, self.time(keep)).await.expect("release");
                assert_eq!(answer, self.release(number, token.nonce, keep), "release");
            }
            8 | 12 => {
                let (pause, keep) = (if random.random() { 0 } else { self.ticks(random) }, self.ticks(random));
                let why = [Why::Abandoned, Why::Failed, Why::Unstarted][random.random_range(0..3)];
                let answer =
                    store.suspend(&key, &token, why, self.time(pause), self.time(keep)).await.expect("suspend");
                assert_eq!(answer, self.suspend(number, token.nonce, why, pause, keep), "suspend {why:?}");
            }
            13 => {
                let (lease, ttl) = (self.ticks(random), self.ticks(random));
                let value = if random.random_range(0..5) == 0 { Err(NotKept::TooLarge) } else { Ok(bytes(random)) };
                let step = Step::new(format!("s,~{}", random.random_range(0..3)), value);
                let (lease_time, ttl_time) = (self.time(lease), self.time(ttl));
                let answer = store.append(&key, &token, &step, lease_time, ttl_time).await.expect("append");
                assert_eq!(answer, self.append(number, token.nonce, step, lease, ttl), "append");
            }
            14 => {
                let shown = store.steps(&key, &token).await.expect("steps");
                let steps = |entry: &mut Entry| entry.steps.iter().map(|(_, step)| step.clone()).collect();
                assert_eq!(shown, self.unended(number, token.nonce).map(steps), "steps");
            }
            15 => self.resolve(random, number, store).await,
            9 => self.fence(number, store, token.nonce).await,
            10 => {
                let forgotten = store.forget(&key).await.expect("forget");
                assert_eq!(forgotten, self.entries[number].take().is_some(), "forget");
            }
            _ => self.pass(random.random_range(0..4)).await,
        }
        if std::mem::take(&mut self.near) && !self.subject.is_exact() {
            // More than a short lease and a short time to live: what was near is past.
            self.pass(3).await;
        }
        self.agree(store, number).await;
    }

    /// One of the key's claims, or a new one.
    fn nonce(&mut self, random: &mut StdRng, number: usize) -> Nonce {
        let known = &mut self.nonces[number];
        if known.is_empty() || random.random_range(0..3) == 0 {
            known.push(Nonce::from_bytes(random.random()));
        }
        // The later ones more often: they may own the key.
        let back = random.random_range(0..3.min(known.len()));
        known[known.len() - 1 - back]
    }

    fn ticks(&mut self, random: &mut StdRng) -> u32 {
        let short = random.random_range(0..3) == 0;
        self.near |= short;
        match (short, self.subject.is_exact()) {
            (true, true) => random.random_range(1..5),
            (true, false) => 1,
            (false, _) => LONG,
        }
    }

    fn time(&self, ticks: u32) -> Duration {
        self.subject.tick() * ticks
    }

    async fn pass(&mut self, ticks: u32) {
        self.subject.advance(self.time(ticks)).await;
        self.now += ticks;
        for entry in &mut self.entries {
            entry.take_if(|entry| entry.expires <= self.now);
        }
    }

    async fn claim(&mut self, random: &mut StdRng, number: usize, store: &dyn Store, nonce: Nonce) {
        let (lease, ttl) = (self.ticks(random), self.ticks(random));
        let fingerprint = if random.random_range(0..6) == 0 { OTHER_PRINT } else { PRINT };
        let take_over = TAKE_OVER[random.random_range(0..TAKE_OVER.len())];
        let arguments: Option<Bytes> = random.random::<bool>().then(|| bytes(random));
        let context: Option<Arc<str>> = random.random::<bool>().then(|| random.random::<u32>().to_string().into());
        let request = ClaimRequest::new(fingerprint, nonce, self.time(lease), self.time(ttl))
            .with_take_over(take_over)
            .with_arguments(arguments.clone())
            .with_context(context.clone());
        let answer = match store.immediate().filter(|_| random.random()) {
            Some(store) => store.claim(&self.keys[number], &request).expect("claim"),
            None => claim(store, &self.keys[number], &request).await,
        };

        let now = self.now;
        let running = ModelState::Running { lease_end: now + lease };
        let claimed = Entry {
            fingerprint,
            nonce,
            attempt: 1,
            expires: now + lease + ttl,
            arguments,
            context,
            phase: running,
            generation: nonce.into(),
            failed: 0,
            before: ModelBefore::Fresh,
            not_before: 0,
            steps: Vec::new(),
        };
        let Some(entry) = &mut self.entries[number] else {
            self.entries[number] = Some(claimed);
            return self.granted(number, &answer);
        };
        if entry.fingerprint != fingerprint {
            assert!(matches!(answer, ClaimOutcome::Mismatch), "{entry:?}: {answer:?}");
            return;
        }
        let attempt = entry.attempt;
        match &entry.phase {
            ModelState::Done(outcome) => match answer {
                ClaimOutcome::Done(Finished { fingerprint, attempt, outcome: answered }) => {
                    assert_eq!((fingerprint, attempt), (entry.fingerprint, entry.attempt));
                    assert_eq!(answered, *outcome);
                }
                other => panic!("{entry:?}: {other:?}"),
            },
            ModelState::Running { .. } if entry.nonce == nonce => self.granted(number, &answer),
            ModelState::Running { lease_end } if now < *lease_end => match answer {
                ClaimOutcome::InFlight { retry_after } => {
                    let left = self.subject.tick() * (*lease_end - now);
                    self.is_left(retry_after, left);
                }
                other => panic!("{entry:?}: {other:?}"),
            },
            ModelState::Running { .. } | ModelState::Suspended(ModelBefore::Abandoned { .. })
                if take_over == TakeOver::Never =>
            {
                assert!(matches!(answer, ClaimOutcome::Abandoned { attempt: shown } if shown == attempt), "{answer:?}");
            }
            ModelState::Suspended(_) if now < entry.not_before => match answer {
                ClaimOutcome::Suspended { retry_after, attempt: shown } => {
                    assert_eq!(shown, attempt);
                    let left = self.subject.tick() * (entry.not_before - now);
                    self.is_left(retry_after, left);
                }
                other => panic!("{entry:?}: {other:?}"),
            },
            // The claim's own run has ended.
            ModelState::Suspended(_) if entry.nonce == nonce => {
                let is_shown = matches!(answer, ClaimOutcome::Suspended { retry_after, attempt: shown }
                    if shown == attempt && !retry_after.is_zero());
                assert!(is_shown, "{entry:?}: {answer:?}");
            }
            ModelState::Running { .. } | ModelState::Suspended(_) => {
                let before = match entry.phase {
                    ModelState::Suspended(before) => before,
                    ModelState::Running { lease_end } => ModelBefore::Abandoned { since: lease_end },
                    ModelState::Done(_) => unreachable!("it is taken over"),
                };
                let steps = std::mem::take(&mut entry.steps);
                let (generation, failed) = (entry.generation, entry.failed);
                *entry = Entry { attempt: attempt + 1, generation, failed, before, steps, ..claimed };
                self.granted(number, &answer);
            }
        }
    }

    /// The answer is the claim that the model has.
    fn granted(&mut self, number: usize, answer: &ClaimOutcome) {
        let Some(entry) = self.entries[number].clone() else { panic!("the model has no record") };
        let ClaimOutcome::Claimed { token, attempt, past } = answer else { panic!("expected Claimed, got {answer:?}") };
        assert_eq!((token.nonce, *attempt), (entry.nonce, entry.attempt));
        assert_eq!((past.generation, past.failed), (entry.generation, entry.failed));
        assert_eq!(past.has_steps, !entry.steps.is_empty());
        match (past.before, entry.before) {
            (Before::Fresh, ModelBefore::Fresh) | (Before::Failed, ModelBefore::Failed { .. }) => {}
            (Before::Abandoned { since }, ModelBefore::Abandoned { since: at }) => {
                let expected = self.time(self.now - at);
                assert!(since >= expected, "{since:?} since, {expected:?} have passed");
                assert!(!self.subject.is_exact() || since == expected, "{since:?} since, not {expected:?}");
            }
            (shown, expected) => panic!("{shown:?} was before, {expected:?} expected"),
        }
        if let Some(fence) = token.fence {
            self.fenced(number, entry.nonce, entry.attempt, fence);
        }
    }

    /// A claim keeps its fence; a new claim's is above all before. A key that was vacant may know the nonce again.
    fn fenced(&mut self, number: usize, nonce: Nonce, attempt: u32, fence: u64) {
        let Fences { highest, by_claim } = &mut self.fences[number];
        if by_claim.get(&(nonce, attempt)) != Some(&fence) {
            assert!(fence > *highest, "fence {fence} after {highest}");
            *highest = fence;
            by_claim.insert((nonce, attempt), fence);
        }
        assert_eq!(fence, *highest, "a claim that has ended has a fence");
    }

    async fn fence(&mut self, number: usize, store: &dyn Store, nonce: Nonce) {
        let answer = store.fence(&self.keys[number], &Token::new(nonce)).await.expect("fence");
        let attempt = self.unended(number, nonce).map(|entry| entry.attempt);
        assert_eq!(answer.is_some(), attempt.is_some(), "fence");
        if let (Some(fence), Some(attempt)) = (answer, attempt) {
            self.fenced(number, nonce, attempt, fence);
        }
    }

    fn owned(&mut self, number: usize, nonce: Nonce) -> Option<&mut Entry> {
        self.entries[number].as_mut().filter(|entry| entry.nonce == nonce)
    }

    fn unended(&mut self, number: usize, nonce: Nonce) -> Option<&mut Entry> {
        self.owned(number, nonce).filter(|entry| matches!(entry.phase, ModelState::Running { .. }))
    }

    fn renew(&mut self, number: usize, nonce: Nonce, lease: u32, ttl: u32) -> Transition {
        let now = self.now;
        let Some(entry) = self.unended(number, nonce) else { return Transition::Lost };
        entry.phase = ModelState::Running { lease_end: now + lease };
        entry.expires = now + lease + ttl;
        Transition::Applied
    }

    fn complete(&mut self, number: usize, nonce: Nonce, outcome: Outcome, ttl: u32) -> Transition {
        let now = self.now;
        match self.owned(number, nonce) {
            Some(entry) if matches!(entry.phase, ModelState::Running { .. }) => {
                entry.phase = ModelState::Done(outcome);
                entry.expires = now + ttl;
                Transition::Applied
            }
            Some(Entry { phase: ModelState::Done(_), .. }) => Transition::Applied,
            _ => Transition::Lost,
        }
    }

    fn suspend(&mut self, number: usize, nonce: Nonce, why: Why, pause: u32, keep: u32) -> Suspension {
        let now = self.now;
        let Some(entry) = &mut self.entries[number] else { return Suspension::Vacant };
        let by_us = entry.nonce == nonce;
        match &entry.phase {
            ModelState::Done(outcome) => return Suspension::ended(outcome.clone(), by_us),
            _ if !by_us => return Suspension::Taken,
            ModelState::Suspended(_) => return Suspension::Applied,
            ModelState::Running { .. } => {}
        }
        let rest = match why {
            Why::Abandoned => ModelBefore::Abandoned { since: now },
            Why::Failed => ModelBefore::Failed { since: now },
            Why::Unstarted => entry.before,
        };
        match why {
            Why::Failed => entry.failed += 1,
            Why::Unstarted => entry.attempt -= 1,
            Why::Abandoned => {}
        }
        entry.phase = ModelState::Suspended(rest);
        entry.before = ModelBefore::Fresh;
        entry.not_before = now + pause;
        entry.expires = now + pause + keep;
        if rest == ModelBefore::Fresh {
            self.entries[number] = None;
        }
        Suspension::Applied
    }

    fn append(&mut self, number: usize, nonce: Nonce, step: Step, lease: u32, ttl: u32) -> Appended {
        if self.renew(number, nonce, lease, ttl) == Transition::Lost {
            return Appended::Lost;
        }
        let Some(entry) = self.unended(number, nonce) else { return Appended::Lost };
        match entry.steps.iter().find(|(_, recorded)| recorded.name == step.name) {
            Some((by, _)) if *by == nonce => Appended::Applied,
            Some((_, recorded)) => Appended::Recorded(recorded.value.clone()),
            None => {
                entry.steps.push((nonce, step));
                Appended::Applied
            }
        }
    }

    fn release(&mut self, number: usize, nonce: Nonce, keep: u32) -> Transition {
        if self.entries[number].is_none() {
            return Transition::Applied;
        }
        match self.owned(number, nonce) {
            Some(Entry { phase: ModelState::Running { .. }, steps, .. }) if steps.is_empty() => {
                self.entries[number] = None;
                Transition::Applied
            }
            Some(Entry { phase: ModelState::Running { .. }, .. }) => {
                assert_eq!(self.suspend(number, nonce, Why::Failed, 0, keep), Suspension::Applied);
                Transition::Applied
            }
            Some(Entry { phase: ModelState::Suspended(ModelBefore::Failed { .. }), .. }) => Transition::Applied,
            _ => Transition::Lost,
        }
    }

    /// An operator says something about the record, or about one that is not there.
    async fn resolve(&mut self, random: &mut StdRng, number: usize, store: &dyn Store) {
        let keep = self.ticks(random);
        let resolution = match random.random_range(0..4) {
            0 | 1 => Resolution::Done(outcome(random)),
            2 => Resolution::Failed,
            _ => Resolution::Vacant,
        };
        let key = &self.keys[number];
        let Some(record) = inspect(store, key).await else { return };
        let is_same = random.random_range(0..5) > 0;
        let mut stranger = record.clone();
        stranger.owner = Nonce::from_bytes(random.random());
        let seen = if is_same { record.seen() } else { stranger.seen() };
        let word = random.random::<u32>().to_string();
        let even_if_alive = random.random_range(0..4) == 0;
        let request = ResolveRequest::new(seen, resolution.clone(), self.time(keep), word.as_str());
        let request = request.even_if_alive(even_if_alive);
        let answer = store.resolve(key, &request).await.expect("resolve");
        let now = self.now;
        let Some(entry) = &mut self.entries[number] else { panic!("{record:?} is shown, and none expected") };
        let lease_left = match entry.phase {
            ModelState::Running { lease_end } => lease_end.saturating_sub(now),
            _ => 0,
        };
        match answer {
            Resolved::Changed => return assert!(!is_same, "{entry:?}: a record that was seen"),
            Resolved::Running { lease_left: left } => {
                assert!(is_same && !even_if_alive, "{entry:?}");
                return self.is_left(left, self.time(lease_left));
            }
            Resolved::Applied => assert!(is_same && (even_if_alive || lease_left == 0), "{entry:?}"),
        }
        entry.nonce = request.nonce;
        entry.context = Some(word.into());
        entry.before = ModelBefore::Fresh;
        entry.not_before = 0;
        entry.expires = now + keep;
        match resolution {
            Resolution::Done(outcome) => {
                entry.phase = ModelState::Done(outcome);
                entry.steps.clear();
            }
            Resolution::Failed => {
                if matches!(&entry.phase, ModelState::Done(outcome) if *outcome != Outcome::Exhausted) {
                    entry.steps.clear();
                }
                entry.phase = ModelState::Suspended(ModelBefore::Failed { since: now });
                (entry.attempt, entry.failed) = (0, 0);
            }
            Resolution::Vacant => self.entries[number] = None,
        }
    }

    /// The store shows of a key what the model has.
    async fn agree(&self, store: &dyn Store, number: usize) {
        let (key, entry) = (&self.keys[number], &self.entries[number]);
        let shown = inspect(store, key).await;
        let (Some(shown), Some(entry)) = (&shown, entry) else {
            assert!(shown.is_none() && entry.is_none(), "{shown:?} is shown, {entry:?} expected");
            return;
        };
        assert_eq!((shown.fingerprint, shown.attempt), (entry.fingerprint, entry.attempt));
        assert_eq!((&shown.arguments, &shown.context), (&entry.arguments, &entry.context));
        assert_eq!(shown.owner, entry.nonce);
        assert_eq!((shown.generation, shown.failed), (entry.generation, entry.failed));
        match shown.not_before {
            Some(left) => self.is_left(left, self.time(entry.not_before - self.now)),
            None => assert!(entry.not_before <= self.now, "{entry:?}"),
        }
        self.is_left(shown.expires_in, self.time(entry.expires - self.now));
        match (&shown.state, &entry.phase) {
            (State::Running { lease_left }, ModelState::Running { lease_end }) if self.now < *lease_end => {
                self.is_left(*lease_left, self.time(*lease_end - self.now));
            }
            (State::Lapsed, ModelState::Running { lease_end }) => assert!(self.now >= *lease_end),
            (State::Failed, ModelState::Suspended(ModelBefore::Failed { .. }))
            | (State::Abandoned, ModelState::Suspended(ModelBefore::Abandoned { .. })) => {}
            (State::Done(shown), ModelState::Done(outcome)) => assert_eq!(shown, outcome),
            (shown, phase) => panic!("{shown:?} is shown, {phase:?} expected"),
        }
        if let Some(peeked) = store.peek(key) {
            assert!(matches!(&entry.phase, ModelState::Done(outcome) if *outcome == peeked.outcome), "a stale result");
        }
    }

    /// Exactly, where time stands still; more has passed than the model knows where it does not.
    fn is_left(&self, shown: Duration, left: Duration) {
        assert!(!shown.is_zero() && shown <= left, "{shown:?} left, of {left:?}");
        assert!(!self.subject.is_exact() || shown == left, "{shown:?} left, not {left:?}");
    }
}

fn outcome(random: &mut StdRng) -> Outcome {
    let bytes = bytes(random);
    match random.random_range(0..9) {
        0..=3 => Outcome::Ok(bytes),
        4 | 5 => Outcome::Err(bytes),
        6 => Outcome::Exhausted,
        7 => Outcome::Dead,
        _ => Outcome::NotKept(NotKept::NotSerializable),
    }
}

fn bytes(random: &mut StdRng) -> Bytes {
    (0..random.random_range(0..40)).map(|_| random.random::<u8>()).collect()
}
