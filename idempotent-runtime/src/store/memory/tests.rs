//! Tests the memory store's own behaviour: limits, expiry, accounts. The conformance suite tests the rules of every store.

use std::{
    collections::HashMap,
    task::{Context, Poll, Waker},
    time::Duration,
};

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

use super::*;
use crate::{
    Fingerprint,
    store::{BoxFuture, Nonce, State, StoreError, StoreErrorKind, TakeOver},
    testing::ManualClock,
};

const TTL: Duration = Duration::from_secs(60);

fn key(number: usize) -> RecordKey {
    format!("test|{number:04}").parse::<RecordKey>().unwrap()
}

fn request() -> ClaimRequest {
    ClaimRequest::new(Fingerprint::from_bytes([1; Fingerprint::LEN]), Nonce::random(), TTL, TTL)
}

fn result(len: usize) -> Outcome {
    Outcome::Ok(vec![b'r'; len].into())
}

/// The output of a future that is ready when it is first polled.
fn ready<T>(mut future: BoxFuture<'_, T>) -> T {
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("not ready at once"),
    }
}

fn claim(store: &MemoryStore, key: &RecordKey) -> Result<ClaimOutcome, StoreErrorKind> {
    ready(store.claim(key, &request())).map_err(|error| error.kind())
}

fn take(store: &MemoryStore, key: &RecordKey) -> Token {
    match claim(store, key) {
        Ok(ClaimOutcome::Claimed { token, .. }) => token,
        other => panic!("expected Claimed, got {other:?}"),
    }
}

#[test]
fn full_of_live_records_refuses_new_keys_and_nothing_else() {
    let clock = ManualClock::new();
    let store = MemoryStore::builder().max_records(3).clock(&clock).build();
    let tokens: Vec<_> = (0..3).map(|number| take(&store, &key(number))).collect();
    assert_eq!(claim(&store, &key(3)).unwrap_err(), StoreErrorKind::Full);
    assert_eq!(ready(store.inspect(&key(3))).unwrap(), None);

    assert!(matches!(claim(&store, &key(0)), Ok(ClaimOutcome::InFlight { .. })));
    assert_eq!(ready(store.renew(&key(0), &tokens[0], TTL, TTL)).unwrap(), Transition::Applied);
    assert_eq!(ready(store.complete(&key(0), &tokens[0], &result(5), TTL)).unwrap(), Transition::Applied);
    assert_eq!(
        ready(store.suspend(&key(1), &tokens[1], Why::Abandoned, Duration::ZERO, TTL)).unwrap(),
        Suspension::Applied
    );
    take(&store, &key(1));
    assert_eq!(ready(store.release(&key(2), &tokens[2], TTL)).unwrap(), Transition::Applied);
    take(&store, &key(3));
    assert_eq!(claim(&store, &key(2)).unwrap_err(), StoreErrorKind::Full);
    assert_eq!(store.records(), 3);
}

/// The claim of a key that it holds: nobody else takes over what becomes of it.
fn hold(store: &MemoryStore, key: &RecordKey) -> Result<Token, StoreError> {
    let held = ClaimRequest { ttl: HELD, ..request() }.with_take_over(TakeOver::Always);
    match ready(store.claim(key, &held))? {
        ClaimOutcome::Claimed { token, .. } => Ok(token),
        other => panic!("expected Claimed, got {other:?}"),
    }
}

const HELD: Duration = ClaimRequest::HELD.saturating_mul(2);

#[test]
fn held_records_leave_room_for_others() {
    let clock = ManualClock::new();
    let store = MemoryStore::builder().max_records(10).max_held_records(3).clock(&clock).build();
    let tokens: Vec<_> = (0..3).map(|number| hold(&store, &key(number)).unwrap()).collect();
    assert_eq!(store.held_records(), 3);
    let full = hold(&store, &key(3)).unwrap_err();
    assert_eq!(full.kind(), StoreErrorKind::Full);
    for word in ["held", "forget", "max_held_records"] {
        assert!(full.to_string().contains(word), "{full}");
    }
    assert_eq!((store.records(), store.held_records()), (3, 3), "a refused record is not counted");

    // Others have room, and so has a key that has a record already.
    let failed = take(&store, &key(4));
    let answer = ready(store.suspend(&key(4), &failed, Why::Failed, Duration::ZERO, TTL)).unwrap();
    assert_eq!(answer, Suspension::Applied);
    let fourth = hold(&store, &key(4)).unwrap();
    assert_eq!((store.records(), store.held_records()), (4, 4));
    // A run that failed leaves no doubt, and its record an end.
    let answer = ready(store.suspend(&key(4), &fourth, Why::Failed, Duration::ZERO, TTL)).unwrap();
    assert_eq!((answer, store.held_records()), (Suspension::Applied, 3));

    // What is in doubt stays held, whatever time passes, until somebody ends it.
    let answer = ready(store.suspend(&key(0), &tokens[0], Why::Abandoned, Duration::ZERO, HELD)).unwrap();
    assert_eq!((answer, store.held_records()), (Suspension::Applied, 3));
    clock.advance(TTL * 1000);
    assert_eq!(hold(&store, &key(3)).unwrap_err().kind(), StoreErrorKind::Full);
    assert_eq!(ready(store.complete(&key(1), &tokens[1], &result(5), TTL)).unwrap(), Transition::Applied);
    assert_eq!(ready(store.release(&key(2), &tokens[2], TTL)).unwrap(), Transition::Applied);
    assert!(ready(store.forget(&key(0))).unwrap());
    assert_eq!(store.held_records(), 0);
    hold(&store, &key(3)).unwrap();
}

#[test]
fn by_default_held_records_may_be_half_of_all() {
    for (records, held) in [(1, 1), (4, 2), (5, 3)] {
        let store = MemoryStore::builder().max_records(records).build();
        for number in 0..held {
            hold(&store, &key(number)).unwrap();
        }
        assert_eq!(hold(&store, &key(held)).unwrap_err().kind(), StoreErrorKind::Full, "{records}");
        assert_eq!(claim(&store, &key(held)).is_ok(), held < records, "{records}");
    }
}

/// Where they may fill the store, it says what has filled it.
#[test]
fn a_store_that_is_full_of_held_records_says_so() {
    let store = MemoryStore::builder().max_records(2).max_held_records(2).build();
    hold(&store, &key(0)).unwrap();
    hold(&store, &key(1)).unwrap();
    for full in [hold(&store, &key(2)).unwrap_err(), ready(store.claim(&key(2), &request())).unwrap_err()] {
        assert_eq!(full.kind(), StoreErrorKind::Full);
        assert!(full.to_string().contains("held") && full.to_string().contains("forget"), "{full}");
    }
}

#[test]
fn expired_records_make_room_at_once_wherever_they_are() {
    let clock = ManualClock::new();
    let store = MemoryStore::builder().max_records(100).clock(&clock).build();
    for number in 0..100 {
        take(&store, &key(number));
    }
    let tick = Duration::from_nanos(1);
    clock.advance((TTL + TTL).saturating_sub(tick));
    assert_eq!(claim(&store, &key(100)).unwrap_err(), StoreErrorKind::Full);
    clock.advance(tick);
    for number in 100..200 {
        take(&store, &key(number));
    }
    assert_eq!(claim(&store, &key(200)).unwrap_err(), StoreErrorKind::Full);
    assert_eq!(store.records(), 100);
}

#[test]
fn bytes_are_limited_at_the_claim_and_not_at_the_completion() {
    let len = key(0).as_str().len();
    let store = MemoryStore::builder().max_bytes(2 * len + 1).build();
    let (first, second) = (take(&store, &key(0)), take(&store, &key(1)));
    assert_eq!(claim(&store, &key(2)).unwrap_err(), StoreErrorKind::Full);
    assert_eq!(store.records(), 2, "a refused record is not counted");

    assert_eq!(ready(store.complete(&key(0), &first, &result(1000), TTL)).unwrap(), Transition::Applied);
    assert_eq!(ready(store.complete(&key(1), &second, &result(0), TTL)).unwrap(), Transition::Applied);
    assert_eq!(store.bytes(), 2 * len + 1000);
    assert!(ready(store.forget(&key(0))).unwrap());
    take(&store, &key(2));
    assert_eq!(claim(&store, &key(0)).unwrap_err(), StoreErrorKind::Full);
}

/// Many small records may have to go for one large key.
#[test]
fn as_many_expired_records_go_as_a_key_needs() {
    let clock = ManualClock::new();
    let small = key(0).as_str().len();
    let store = MemoryStore::builder().max_bytes(50 * small).clock(&clock).build();
    for number in 0..50 {
        take(&store, &key(number));
    }
    clock.advance(TTL * 2);
    let large = format!("test|{}", "k".repeat(40 * small)).parse::<RecordKey>().unwrap();
    take(&store, &large);
    assert!(store.bytes() <= 50 * small);
}

#[test]
fn claims_remove_more_than_they_add() {
    let clock = ManualClock::new();
    let store = MemoryStore::builder().clock(&clock).build();
    for number in 0..50_000 {
        take(&store, &key(number));
    }
    clock.advance(TTL * 2);
    for number in 50_000..100_000 {
        take(&store, &key(number));
    }
    // The claims do not hit all shards alike, so some shards have expired records left.
    assert!(store.records() < 51_000, "{} records", store.records());
}

#[test]
fn purge_removes_exactly_what_has_expired() {
    let clock = ManualClock::new();
    let store = MemoryStore::builder().clock(&clock).build();
    for number in 0..10 {
        take(&store, &key(number));
    }
    clock.advance(TTL);
    for number in 10..15 {
        take(&store, &key(number));
    }
    clock.advance(TTL);
    assert_eq!(ready(store.purge_expired(4)).unwrap(), 4);
    assert_eq!(ready(store.purge_expired(100)).unwrap(), 6);
    assert_eq!(ready(store.purge_expired(100)).unwrap(), 0);
    assert_eq!(store.records(), 5);
}

/// Takes random steps. The counts are those of the records that are there, and are zero when all records have gone.
#[test]
fn the_accounts_balance() {
    let seed = rand::random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let clock = ManualClock::new();
    let store = MemoryStore::builder().clock(&clock).build();
    let mut tokens = vec![Token::new(Nonce::random()); 300];
    let mut steps = HashMap::new();
    for _ in 0..20_000 {
        let number = random.random_range(0..tokens.len());
        let (key, token) = (key(number), tokens[number]);
        let transition = match random.random_range(0..7) {
            0 | 1 => {
                let ttl = if random.random() { HELD } else { TTL };
                let claim = ClaimRequest { ttl, ..request() }.with_take_over(TakeOver::Always);
                if let Ok(ClaimOutcome::Claimed { token, .. }) = ready(store.claim(&key, &claim)) {
                    tokens[number] = token;
                }
                continue;
            }
            2 => ready(store.complete(&key, &token, &result(random.random_range(0..50)), TTL)),
            3 => ready(store.release(&key, &token, TTL)),
            4 => {
                let why = [Why::Abandoned, Why::Failed, Why::Unstarted][random.random_range(0..3)];
                let keep = if random.random() { HELD } else { TTL };
                assert!(ready(store.suspend(&key, &token, why, Duration::ZERO, keep)).is_ok());
                continue;
            }
            5 => {
                let step = Step::new(format!("s,~{}", random.random_range(0..9)), Ok(vec![7; 30].into()));
                let ttl = if random.random() { HELD } else { TTL };
                if ready(store.append(&key, &token, &step, TTL, ttl)).unwrap() == Appended::Applied {
                    let recorded = ready(store.steps(&key, &token)).unwrap().unwrap();
                    let life = ready(store.inspect(&key)).unwrap().unwrap().generation;
                    steps.insert((life, key.as_str().to_owned()), recorded.iter().map(Step::len).sum::<usize>());
                }
                continue;
            }
            _ => {
                clock.advance(Duration::from_secs(random.random_range(0..4)));
                continue;
            }
        };
        assert!(transition.is_ok());
    }
    while ready(store.purge_expired(7)).unwrap() > 0 {}
    let records = ready(store.list(None, None, usize::MAX)).unwrap().records;
    let bytes = records.iter().map(|record| {
        let rest = match &record.state {
            State::Done(outcome) => outcome.len(),
            _ => steps.get(&(record.generation, record.key.as_str().to_owned())).copied().unwrap_or_default(),
        };
        record.key.as_str().len() + rest
    });
    assert_eq!((store.records(), store.bytes()), (records.len(), bytes.sum()));
    let is_held = |record: &&Record| !matches!(record.state, State::Done(_)) && record.expires_in > ClaimRequest::HELD;
    assert_eq!(store.held_records(), records.iter().filter(is_held).count());
    assert!(store.held_records() > 0, "they were random");
    for record in records {
        assert!(ready(store.forget(&record.key)).unwrap());
    }
    assert_eq!((store.records(), store.bytes(), store.held_records()), (0, 0, 0));
}

#[test]
fn nothing_happens_before_the_first_poll() {
    let store = MemoryStore::new();
    let (key, request) = (key(0), request());
    drop(store.claim(&key, &request));
    assert_eq!(store.records(), 0);
}

#[test]
fn extreme_durations_are_durations() {
    let store = MemoryStore::new();
    let forever = ClaimRequest { lease: Duration::MAX, ttl: Duration::MAX, ..request() };
    assert!(matches!(ready(store.claim(&key(0), &forever)), Ok(ClaimOutcome::Claimed { .. })));
    assert!(matches!(claim(&store, &key(0)), Ok(ClaimOutcome::InFlight { .. })));

    let never = ClaimRequest { lease: Duration::ZERO, ttl: Duration::ZERO, ..request() };
    assert!(matches!(ready(store.claim(&key(1), &never)), Ok(ClaimOutcome::Claimed { .. })));
    assert_eq!(ready(store.inspect(&key(1))).unwrap(), None);
    let token = take(&store, &key(1));
    assert_eq!(ready(store.complete(&key(1), &token, &result(1), Duration::ZERO)).unwrap(), Transition::Applied);
    assert_eq!(store.peek(&key(1)), None);
}

/// A new process is a new store, and fences start at the time in microseconds.
#[test]
fn fences_rise_across_stores() {
    let mut last = 0;
    for _ in 0..5 {
        while clock::unix_micros() <= last {
            std::thread::yield_now();
        }
        let fence = take(&MemoryStore::new(), &key(0)).fence.unwrap();
        assert!(fence > last, "{fence} after {last}");
        last = fence;
    }
}

/// A page looks at a limited number of records, even if none of them belongs to it.
#[test]
fn a_rare_operation_is_found_in_many_pages() {
    let store = MemoryStore::new();
    for number in 0..30_000 {
        take(&store, &key(number));
    }
    let rare = "rare|1".parse::<RecordKey>().unwrap();
    take(&store, &rare);
    let (mut pages, mut found, mut after) = (0, Vec::new(), None);
    loop {
        let page = ready(store.list(Some("rare"), after.as_ref(), 10)).unwrap();
        found.extend(page.records.into_iter().map(|record| record.key));
        pages += 1;
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(found, [rare]);
    assert_eq!(pages, 4, "30,001 records, 10,000 of them a page");
}

#[test]
fn another_store_s_cursor_is_refused() {
    let store = MemoryStore::new();
    for text in ["", "1", "1.", ".1", "a.b", "-1.0", "1.2.3"] {
        let answer = ready(store.list(None, Some(&Cursor(text.into())), 10));
        assert_eq!(answer.map_err(|error: StoreError| error.kind()).unwrap_err(), StoreErrorKind::Refused, "{text:?}");
    }
    assert!(ready(store.list(None, Some(&Cursor("99999.0".into())), 10)).unwrap().records.is_empty());
}

#[test]
fn debug_shows_neither_keys_nor_results() {
    let store = MemoryStore::new();
    let key = "test|canary".parse::<RecordKey>().unwrap();
    let token = take(&store, &key);
    let outcome = Outcome::Ok("canary".into());
    assert_eq!(ready(store.complete(&key, &token, &outcome, TTL)).unwrap(), Transition::Applied);
    assert_eq!(format!("{store:?}"), format!("MemoryStore {{ records: 1, held: 0, bytes: {} }}", 11 + 6));
}
