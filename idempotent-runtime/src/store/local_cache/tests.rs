//! Tests what the cache shows without asking the store, for how long, and what it never shows. The cache's clock is tokio's,
//! which is paused. The store's clock is set by hand.
#![expect(clippy::expect_used, clippy::panic, reason = "helpers of tests fail the test")]

use tokio::{task::JoinHandle, time::advance};

use super::*;
use crate::{
    NotKept,
    store::memory::MemoryStore,
    testing::{Fault, FaultyStore, Gate, ManualClock, Method},
};

const LEASE: Duration = Duration::from_secs(30);
const TTL: Duration = Duration::from_secs(3600);
const NANOSECOND: Duration = Duration::from_nanos(1);

/// A cache, the store behind it, and that store without the cache: another process.
struct Subject {
    cached: Arc<LocalCache>,
    behind: FaultyStore<MemoryStore>,
    elsewhere: MemoryStore,
    clock: ManualClock,
}

impl Subject {
    fn new() -> Self {
        Self::of_size(1 << 20)
    }

    fn of_size(max_bytes: usize) -> Self {
        let clock = ManualClock::new();
        let elsewhere = MemoryStore::builder().clock(&clock).build();
        let behind = FaultyStore::new(elsewhere.clone());
        // A store with a server shows nothing without being asked.
        behind.always(Method::Peek, Fault::LOST_REQUEST);
        let cached = Arc::new(LocalCache::new(Arc::new(behind.clone()), max_bytes));
        Self { cached, behind, elsewhere, clock }
    }

    /// Moves the clocks of both sides.
    async fn advance(&self, by: Duration) {
        self.clock.advance(by);
        advance(by).await;
    }

    async fn run(&self, store: &dyn Store, key: &RecordKey, ttl: Duration) -> Token {
        let token = claim(store, key, &request()).await;
        applied(store.complete(key, &token, &ok(), ttl).await);
        token
    }

    /// Returns what the cache shows, and checks that it did not ask the store.
    fn shown(&self, key: &RecordKey) -> Option<Finished> {
        let before = self.calls();
        let shown = self.cached.peek(key);
        assert_eq!(self.calls(), before);
        shown
    }

    /// Counts the calls that cost a round trip.
    fn calls(&self) -> usize {
        let methods = [Method::Claim, Method::Complete, Method::Inspect, Method::Forget];
        methods.map(|method| self.behind.calls(method)).into_iter().sum()
    }

    /// Asks for the key like a repeat that has found nothing at hand.
    async fn repeat(&self, key: &RecordKey) -> ClaimOutcome {
        self.cached.claim(key, &request()).await.expect("an answer")
    }

    /// Completes on a task of its own.
    fn completing(&self, key: &RecordKey, token: Token) -> JoinHandle<StoreResult<Transition>> {
        let (cached, key) = (Arc::clone(&self.cached), key.clone());
        tokio::spawn(async move { cached.complete(&key, &token, &ok(), TTL).await })
    }
}

fn key(name: impl fmt::Display) -> RecordKey {
    format!("charge|{name}").parse::<RecordKey>().expect("a key")
}

fn request() -> ClaimRequest {
    let fingerprint = Fingerprint::from_bytes([1; Fingerprint::LEN]);
    ClaimRequest::new(fingerprint, Nonce::random(), LEASE, TTL)
}

fn other_request() -> ClaimRequest {
    ClaimRequest { fingerprint: Fingerprint::from_bytes([2; Fingerprint::LEN]), ..request() }
}

fn ok() -> Outcome {
    Outcome::Ok(Bytes::from_static(b"\"the result\""))
}

fn finished() -> Finished {
    Finished { fingerprint: request().fingerprint, attempt: 1, outcome: ok() }
}

async fn claim(store: &dyn Store, key: &RecordKey, request: &ClaimRequest) -> Token {
    match store.claim(key, request).await {
        Ok(ClaimOutcome::Claimed { token, .. }) => token,
        other => panic!("not granted: {other:?}"),
    }
}

fn applied(answer: StoreResult<Transition>) {
    assert_eq!(answer.expect("an answer"), Transition::Applied);
}

#[tokio::test(start_paused = true)]
async fn what_was_completed_here_is_shown() {
    let subject = Subject::new();
    let outcomes = [ok(), Outcome::Err(Bytes::from_static(b"1")), Outcome::NotKept(NotKept::TooLarge)];
    for (number, outcome) in outcomes.into_iter().enumerate() {
        let key = key(number);
        let token = claim(&*subject.cached, &key, &request()).await;
        assert_eq!(subject.shown(&key), None, "it runs");
        applied(subject.cached.complete(&key, &token, &outcome, TTL).await);
        assert_eq!(subject.shown(&key), Some(Finished { outcome, ..finished() }));
    }
    assert_eq!(subject.behind.calls(Method::Inspect), 0);
}

#[tokio::test(start_paused = true)]
async fn a_later_attempt_is_shown_as_one() {
    let subject = Subject::new();
    claim(&*subject.cached, &key(1), &request()).await;
    subject.advance(LEASE).await;
    subject.run(&*subject.cached, &key(1), TTL).await;
    assert_eq!(subject.shown(&key(1)), Some(Finished { attempt: 2, ..finished() }));
}

#[tokio::test(start_paused = true)]
async fn what_was_completed_elsewhere_is_looked_up_once() {
    let subject = Subject::new();
    subject.run(&subject.elsewhere, &key(1), TTL).await;
    assert_eq!(subject.shown(&key(1)), None);
    assert!(matches!(subject.repeat(&key(1)).await, ClaimOutcome::Done(done) if done == finished()));
    assert_eq!((subject.behind.calls(Method::Claim), subject.behind.calls(Method::Inspect)), (1, 1));
    assert_eq!(subject.shown(&key(1)), Some(finished()));
}

/// The claim's answer stands without the look.
#[tokio::test(start_paused = true)]
async fn a_look_that_fails_keeps_nothing_and_spoils_nothing() {
    let subject = Subject::new();
    subject.run(&subject.elsewhere, &key(1), TTL).await;
    subject.behind.next(Method::Inspect, [Fault::LOST_REPLY]);
    assert!(matches!(subject.repeat(&key(1)).await, ClaimOutcome::Done(done) if done == finished()));
    assert_eq!(subject.shown(&key(1)), None);
}

#[tokio::test(start_paused = true)]
async fn a_key_without_a_result_is_never_shown() {
    let subject = Subject::new();
    let released = claim(&*subject.cached, &key("released"), &request()).await;
    applied(subject.cached.release(&key("released"), &released, TTL).await);
    let abandoned = claim(&*subject.cached, &key("abandoned"), &request()).await;
    let suspended = subject.cached.suspend(&key("abandoned"), &abandoned, Why::Abandoned, Duration::ZERO, TTL).await;
    assert_eq!(suspended.expect("an answer"), Suspension::Applied);
    claim(&*subject.cached, &key("running"), &request()).await;
    claim(&*subject.cached, &key("lapsed"), &ClaimRequest { lease: NANOSECOND, ..request() }).await;
    let late = claim(&*subject.cached, &key("lost"), &request()).await;
    subject.elsewhere.forget(&key("lost")).await.expect("an answer");
    claim(&subject.elsewhere, &key("lost"), &request()).await;
    let lost = subject.cached.complete(&key("lost"), &late, &ok(), TTL).await;
    assert_eq!(lost.expect("an answer"), Transition::Lost);
    subject.advance(NANOSECOND).await;
    for name in ["released", "abandoned", "running", "lapsed", "lost", "vacant"] {
        assert_eq!(subject.shown(&key(name)), None, "{name}");
        subject.cached.inspect(&key(name)).await.expect("an answer");
        assert_eq!(subject.shown(&key(name)), None, "{name}");
    }
}

/// It is shown for nine tenths of its time to live. The cache counts from before it sends the completion, the store from
/// later.
#[tokio::test(start_paused = true)]
async fn a_result_is_shown_for_less_than_the_store_keeps_it() {
    let subject = Subject::new();
    let ttl = Duration::from_secs(10);
    let token = claim(&*subject.cached, &key(1), &request()).await;
    subject.behind.next(Method::Complete, [Fault::Delay(Duration::from_secs(2))]);
    applied(subject.cached.complete(&key(1), &token, &ok(), ttl).await);
    advance(Duration::from_secs(7).saturating_sub(NANOSECOND)).await;
    assert_eq!(subject.shown(&key(1)), Some(finished()));
    advance(NANOSECOND).await;
    assert_eq!(subject.shown(&key(1)), None);
}

/// It is shown for nine tenths of the time that the record had left when it was looked up.
#[tokio::test(start_paused = true)]
async fn what_was_looked_up_is_shown_for_less_than_was_left_of_it() {
    let subject = Subject::new();
    subject.run(&subject.elsewhere, &key(1), Duration::from_secs(14)).await;
    subject.clock.advance(Duration::from_secs(4));
    subject.behind.next(Method::Inspect, [Fault::Delay(Duration::from_secs(2))]);
    subject.repeat(&key(1)).await;
    advance(Duration::from_secs(7).saturating_sub(NANOSECOND)).await;
    assert_eq!(subject.shown(&key(1)), Some(finished()));
    advance(NANOSECOND).await;
    assert_eq!(subject.shown(&key(1)), None);
}

/// An entry goes after a minute, whatever another process has done to the record.
#[tokio::test(start_paused = true)]
async fn what_is_forgotten_elsewhere_is_shown_for_a_minute_at_most() {
    let subject = Subject::new();
    subject.run(&*subject.cached, &key("ours"), TTL).await;
    subject.run(&subject.elsewhere, &key("theirs"), TTL).await;
    subject.repeat(&key("theirs")).await;
    for key in [key("ours"), key("theirs")] {
        assert!(subject.elsewhere.forget(&key).await.expect("an answer"));
    }
    subject.advance(MAX_AGE.saturating_sub(NANOSECOND)).await;
    for key in [key("ours"), key("theirs")] {
        assert_eq!(subject.shown(&key), Some(finished()));
    }
    subject.advance(NANOSECOND).await;
    for key in [key("ours"), key("theirs")] {
        assert_eq!(subject.shown(&key), None);
        assert!(matches!(subject.repeat(&key).await, ClaimOutcome::Claimed { attempt: 1, .. }));
    }
}

/// Showing an entry does not prolong it. The store's next answer does.
#[tokio::test(start_paused = true)]
async fn the_store_is_asked_again_each_minute() {
    let subject = Subject::new();
    subject.run(&*subject.cached, &key(1), TTL).await;
    for minute in 0..3 {
        assert_eq!(subject.behind.calls(Method::Inspect), minute);
        for _ in 0..59 {
            assert_eq!(subject.shown(&key(1)), Some(finished()));
            subject.advance(Duration::from_secs(1)).await;
        }
        subject.advance(Duration::from_secs(1)).await;
        assert_eq!(subject.shown(&key(1)), None);
        assert!(matches!(subject.repeat(&key(1)).await, ClaimOutcome::Done(_)));
    }
}

#[tokio::test(start_paused = true)]
async fn forget_through_the_cache_counts_at_once_also_where_its_answer_is_lost() {
    let subject = Subject::new();
    subject.run(&*subject.cached, &key(1), TTL).await;
    assert!(subject.cached.forget(&key(1)).await.expect("an answer"));
    assert_eq!(subject.shown(&key(1)), None);

    subject.run(&*subject.cached, &key(2), TTL).await;
    subject.behind.next(Method::Forget, [Fault::LOST_REPLY]);
    assert!(subject.cached.forget(&key(2)).await.is_err());
    assert_eq!(subject.shown(&key(2)), None);
}

/// The answer that is under way shows the record that the `forget` has removed.
#[tokio::test(start_paused = true)]
async fn an_answer_that_a_forget_overtakes_is_not_kept() {
    let subject = Subject::new();
    let gate = Gate::new();
    subject.behind.next(Method::Complete, [Fault::HoldAfter(gate.clone())]);
    let token = claim(&*subject.cached, &key(1), &request()).await;
    let completing = subject.completing(&key(1), token);
    gate.reached(1).await;
    assert!(subject.cached.forget(&key(1)).await.expect("an answer"));
    gate.open();
    applied(completing.await.expect("no panic"));
    assert_eq!(subject.shown(&key(1)), None);

    let gate = Gate::new();
    subject.behind.next(Method::Inspect, [Fault::HoldAfter(gate.clone())]);
    subject.run(&subject.elsewhere, &key(2), TTL).await;
    let cached = Arc::clone(&subject.cached);
    let repeating = tokio::spawn(async move { cached.claim(&key(2), &request()).await });
    gate.reached(1).await;
    assert!(subject.cached.forget(&key(2)).await.expect("an answer"));
    gate.open();
    assert!(matches!(repeating.await.expect("no panic"), Ok(ClaimOutcome::Done(_))));
    assert_eq!(subject.shown(&key(2)), None);
}

/// The first try may have been applied, long before the repeat.
#[tokio::test(start_paused = true)]
async fn a_completion_that_had_to_be_repeated_is_not_kept() {
    let subject = Subject::new();
    let ttl = Duration::from_secs(30);
    let token = claim(&*subject.cached, &key("lost"), &request()).await;
    subject.behind.next(Method::Complete, [Fault::LOST_REPLY]);
    assert!(subject.cached.complete(&key("lost"), &token, &ok(), ttl).await.is_err());
    subject.advance(ttl.saturating_sub(NANOSECOND)).await;
    applied(subject.cached.complete(&key("lost"), &token, &ok(), ttl).await);
    assert_eq!(subject.shown(&key("lost")), None);
    // What the store says now is kept: it knows how long.
    subject.repeat(&key("lost")).await;
    subject.advance(NANOSECOND).await;
    assert_eq!(subject.shown(&key("lost")), None);

    let token = claim(&*subject.cached, &key("dropped"), &request()).await;
    let gate = Gate::new();
    subject.behind.next(Method::Complete, [Fault::HoldAfter(gate.clone())]);
    let completing = subject.completing(&key("dropped"), token);
    gate.reached(1).await;
    completing.abort();
    assert!(completing.await.is_err());
    applied(subject.cached.complete(&key("dropped"), &token, &ok(), ttl).await);
    assert_eq!(subject.shown(&key("dropped")), None);
}

/// The answer to an earlier claim comes after that to a later one, whose run is then completed.
#[tokio::test(start_paused = true)]
async fn a_result_is_not_kept_as_another_request_s() {
    let subject = Subject::new();
    let gate = Gate::new();
    subject.behind.next(Method::Claim, [Fault::HoldAfter(gate.clone())]);
    let cached = Arc::clone(&subject.cached);
    let first = tokio::spawn(async move { cached.claim(&key(1), &request()).await });
    gate.reached(1).await;
    subject.advance(LEASE + TTL).await;
    let token = claim(&*subject.cached, &key(1), &other_request()).await;
    gate.open();
    assert!(matches!(first.await.expect("no panic"), Ok(ClaimOutcome::Claimed { .. })));
    applied(subject.cached.complete(&key(1), &token, &ok(), TTL).await);
    assert_eq!(subject.shown(&key(1)), None);
    assert!(matches!(subject.repeat(&key(1)).await, ClaimOutcome::Mismatch));
}

/// The store's answer about a key replaces what the cache kept of it.
#[tokio::test(start_paused = true)]
async fn what_an_inspection_finds_is_shown_from_then_on() {
    let subject = Subject::new();
    subject.run(&*subject.cached, &key(1), TTL).await;
    subject.elsewhere.forget(&key(1)).await.expect("an answer");
    let token = claim(&subject.elsewhere, &key(1), &other_request()).await;
    subject.cached.inspect(&key(1)).await.expect("an answer");
    assert_eq!(subject.shown(&key(1)), None, "it runs");
    applied(subject.elsewhere.complete(&key(1), &token, &ok(), TTL).await);
    subject.cached.inspect(&key(1)).await.expect("an answer");
    let fingerprint = other_request().fingerprint;
    assert_eq!(subject.shown(&key(1)), Some(Finished { fingerprint, ..finished() }));
}

#[tokio::test(start_paused = true)]
async fn the_bytes_are_bounded_and_the_latest_are_shown() {
    const MAX: usize = 64 << 10;
    let subject = Subject::of_size(MAX);
    let bytes = || usize::try_from(subject.cached.entries.weight()).expect("a length");
    for number in 0..1000 {
        let token = claim(&*subject.cached, &key(number), &request()).await;
        let result = Outcome::Ok(vec![b'1'; number * 7 % 1000].into());
        applied(subject.cached.complete(&key(number), &token, &result, TTL).await);
        assert!(bytes() <= MAX, "{} bytes", bytes());
        assert!(subject.shown(&key(number)).is_some(), "{number}");
    }
    assert!(bytes() > MAX / 2, "only {} bytes are used", bytes());
    let shown = (0..1000).filter(|&number| subject.shown(&key(number)).is_some()).count();
    assert!(shown >= MAX / 2 / (ENTRY_LEN + 1010), "{shown} of 1,000 are shown");

    // What does not fit is not kept, and nothing goes for it.
    let token = claim(&*subject.cached, &key("large"), &request()).await;
    let before = bytes();
    applied(subject.cached.complete(&key("large"), &token, &Outcome::Ok(vec![b'1'; MAX].into()), TTL).await);
    assert_eq!(subject.shown(&key("large")), None);
    assert!(bytes() <= before && before - bytes() <= ENTRY_LEN + "charge|large".len());
}

/// Keeps a result of the largest size that the default limits allow, in the smallest cache that may hold it.
#[tokio::test(start_paused = true)]
async fn a_mebibyte_fits_into_four() {
    let subject = Subject::of_size(4 << 20);
    let token = claim(&*subject.cached, &key(1), &request()).await;
    applied(subject.cached.complete(&key(1), &token, &Outcome::Ok(vec![b'1'; 1 << 20].into()), TTL).await);
    assert_eq!(subject.shown(&key(1)).map(|shown| shown.outcome.len()), Some(1 << 20));
}

/// A cache without room behaves like the store behind it.
#[tokio::test(start_paused = true)]
async fn no_bytes_keep_nothing() {
    let subject = Subject::of_size(0);
    subject.run(&*subject.cached, &key(1), TTL).await;
    assert_eq!(subject.shown(&key(1)), None);
    assert!(matches!(subject.repeat(&key(1)).await, ClaimOutcome::Done(done) if done == finished()));
    assert_eq!(subject.shown(&key(1)), None);
}

#[tokio::test(start_paused = true)]
async fn debug_shows_neither_keys_nor_results() {
    let subject = Subject::new();
    subject.run(&*subject.cached, &key("canary"), TTL).await;
    let text = format!("{:?} {:#?}", subject.cached, subject.cached);
    assert!(text.contains("entries: 1"), "{text}");
    assert!(!text.contains("canary") && !text.contains("result"), "{text}");
}
