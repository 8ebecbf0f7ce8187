//! Edges in time, on the store's clock: one tick before, the old; at the edge, the new.

use std::time::Duration;

use super::subject::{LONG, OTHER_PRINT, Subject, applied, claim, inspect, ok, request, suspended};
use crate::store::{ClaimOutcome, ClaimRequest, RecordKey, State, TakeOver, Token, Why};

pub(super) async fn lease_ends_when_it_says(subject: &Subject) {
    let key = subject.key("k");
    let lease = subject.short_lease();
    subject.take(subject.a(), &key, &ClaimRequest { lease, ..request() }).await;
    lapses_after(subject, &key, lease).await;
    assert_eq!(subject.take(subject.b(), &key, &request()).await.attempt, 2);
}

/// Shorter than it was, too.
pub(super) async fn renewed_lease_ends_when_it_says(subject: &Subject) {
    let lease = subject.short_lease();
    for first in [lease, LONG] {
        let key = subject.key(first.as_nanos());
        let taken = subject.take(subject.a(), &key, &ClaimRequest { lease: first, ..request() }).await;
        for _ in 0..2 {
            subject.advance(lease.saturating_sub(subject.tick())).await;
            applied(subject.b().renew(&key, &taken.token, lease, LONG).await);
        }
        lapses_after(subject, &key, lease).await;
    }
}

pub(super) async fn lapsed_lease_can_be_renewed(subject: &Subject) {
    let key = subject.key("k");
    let token = subject.lapse(&key).await;
    assert_eq!(subject.state(&key).await, Some(State::Lapsed));
    let lease = subject.short_lease();
    applied(subject.a().renew(&key, &token, lease, LONG).await);
    lapses_after(subject, &key, lease).await;
    applied(subject.a().complete(&key, &token, &ok(b"late, and still the owner"), LONG).await);
}

pub(super) async fn running_record_is_kept_for_lease_and_ttl(subject: &Subject) {
    let key = subject.key("k");
    let (lease, ttl) = (subject.short_lease(), subject.short_ttl());
    let token = subject.take(subject.a(), &key, &ClaimRequest { lease, ttl, ..request() }).await.token;
    subject.advance(lease).await;
    vacant_after(subject, &key, &token, ttl).await;
}

pub(super) async fn renewed_record_is_kept_for_lease_and_ttl(subject: &Subject) {
    let key = subject.key("k");
    let (lease, ttl) = (subject.short_lease(), subject.short_ttl());
    for first in [LONG, lease] {
        let key = subject.key(format_args!("{}-{first:?}", key.key()));
        let request = ClaimRequest { lease, ttl: first, ..request() };
        let token = subject.take(subject.a(), &key, &request).await.token;
        subject.advance(subject.tick()).await;
        applied(subject.a().renew(&key, &token, lease, ttl).await);
        subject.advance(lease).await;
        vacant_after(subject, &key, &token, ttl).await;
    }
}

pub(super) async fn taken_over_record_is_kept_for_lease_and_ttl(subject: &Subject) {
    let key = subject.key("k");
    subject.lapse(&key).await;
    let (lease, ttl) = (subject.short_lease(), subject.short_ttl());
    let token = subject.take(subject.b(), &key, &ClaimRequest { lease, ttl, ..request() }).await.token;
    lapses_after(subject, &key, lease).await;
    vacant_after(subject, &key, &token, ttl).await;
}

/// Counted from the completion, whatever the claim said.
pub(super) async fn done_record_is_kept_for_its_ttl(subject: &Subject) {
    let ttl = subject.short_ttl();
    for claimed in [subject.tick(), LONG] {
        let key = subject.key(claimed.as_nanos());
        let request = ClaimRequest { lease: LONG, ttl: claimed, ..request() };
        let token = subject.take(subject.a(), &key, &request).await.token;
        subject.advance(subject.tick()).await;
        applied(subject.b().complete(&key, &token, &ok(b"kept"), ttl).await);
        vacant_after(subject, &key, &token, ttl).await;
    }
}

pub(super) async fn suspended_record_is_kept_for_its_time(subject: &Subject) {
    let keep = subject.short_ttl();
    for (claimed, why) in [(subject.tick(), Why::Abandoned), (LONG, Why::Abandoned), (LONG, Why::Failed)] {
        let key = subject.key(format_args!("{}-{why:?}", claimed.as_nanos()));
        let request = ClaimRequest { lease: LONG, ttl: claimed, ..request() };
        let token = subject.take(subject.a(), &key, &request).await.token;
        subject.advance(subject.tick()).await;
        suspended(subject.b().suspend(&key, &token, why, Duration::ZERO, keep).await);
        vacant_after(subject, &key, &token, keep).await;
    }
}

/// Nobody runs the key before that, and the record is kept for its time from then on.
pub(super) async fn suspended_key_is_run_at_its_time(subject: &Subject) {
    for why in [Why::Abandoned, Why::Failed] {
        let key = subject.key(format_args!("{why:?}"));
        let token = subject.run(&key).await;
        let (pause, keep) = (subject.short_lease(), subject.short_ttl());
        suspended(subject.a().suspend(&key, &token, why, pause, keep).await);
        subject.advance(pause.saturating_sub(subject.tick())).await;
        for store in subject.both() {
            match claim(store, &key, &request()).await {
                ClaimOutcome::Suspended { retry_after, attempt } => {
                    assert!(!retry_after.is_zero() && retry_after <= subject.tick(), "{retry_after:?} left");
                    assert_eq!(attempt, 1);
                }
                other => panic!("expected Suspended before its time, got {other:?}"),
            }
            let other = claim(store, &key, &ClaimRequest { fingerprint: OTHER_PRINT, ..request() }).await;
            assert!(matches!(other, ClaimOutcome::Mismatch), "{other:?}");
            let refused = claim(store, &key, &request().with_take_over(TakeOver::Never)).await;
            match why {
                Why::Abandoned => assert!(matches!(refused, ClaimOutcome::Abandoned { attempt: 1 }), "{refused:?}"),
                _ => assert!(matches!(refused, ClaimOutcome::Suspended { .. }), "{refused:?}"),
            }
        }
        let record = subject.record(&key).await.expect("a record");
        assert!(record.not_before.is_some_and(|left| !left.is_zero() && left <= subject.tick()), "{record:?}");
        subject.advance(subject.tick()).await;
        let record = subject.record(&key).await.expect("a record");
        assert_eq!(record.not_before, None);
        assert!(record.expires_in <= keep, "{record:?}");
        assert_eq!(subject.take(subject.b(), &key, &request()).await.attempt, 2);
    }

    let key = subject.key("unclaimed");
    let token = subject.run(&key).await;
    suspended(subject.a().suspend(&key, &token, Why::Failed, subject.short_lease(), subject.short_ttl()).await);
    subject.advance(subject.short_lease()).await;
    vacant_after(subject, &key, &token, subject.short_ttl()).await;
}

/// A repeat of a completion, of a suspension, and a claim that is answered, leave the expiry where it was.
pub(super) async fn repeats_do_not_prolong(subject: &Subject) {
    let ttl = subject.short_ttl();
    let (done, abandoned) = (subject.key("done"), subject.key("abandoned"));
    let (first, second) = (subject.run(&done).await, subject.run(&abandoned).await);
    applied(subject.a().complete(&done, &first, &ok(b"1"), ttl).await);
    suspended(subject.a().suspend(&abandoned, &second, Why::Abandoned, Duration::ZERO, ttl).await);
    subject.advance(subject.tick()).await;
    applied(subject.b().complete(&done, &first, &ok(b"1"), LONG).await);
    suspended(subject.b().suspend(&abandoned, &second, Why::Abandoned, Duration::ZERO, LONG).await);
    for key in [&done, &abandoned] {
        claim(subject.a(), key, &request().with_take_over(TakeOver::Never)).await;
        claim(subject.a(), key, &ClaimRequest { fingerprint: OTHER_PRINT, ..request() }).await;
    }
    subject.advance(ttl.saturating_sub(subject.tick())).await;
    for (key, token) in [(&done, &first), (&abandoned, &second)] {
        is_vacant(subject, key, token).await;
    }
}

pub(super) async fn a_century_is_not_too_long(subject: &Subject) {
    let key = subject.key("k");
    let century = Duration::from_secs(100 * 365 * 24 * 60 * 60);
    let taken = subject.take(subject.a(), &key, &ClaimRequest { lease: century, ttl: century, ..request() }).await;
    applied(subject.b().renew(&key, &taken.token, century, century).await);
    assert!(matches!(subject.state(&key).await, Some(State::Running { lease_left }) if lease_left > century / 2));
    applied(subject.b().complete(&key, &taken.token, &ok(b"1"), century).await);
    let record = subject.record(&key).await.expect("a record");
    assert!(record.expires_in > century / 2 && record.expires_in <= century, "{record:?}");
}

/// In flight for a tick less than `lease`, and lapsed then.
async fn lapses_after(subject: &Subject, key: &RecordKey, lease: Duration) {
    let refused = request().with_take_over(TakeOver::Never);
    subject.advance(lease.saturating_sub(subject.tick())).await;
    for store in subject.both() {
        match claim(store, key, &refused).await {
            ClaimOutcome::InFlight { retry_after } => assert!(!retry_after.is_zero() && retry_after <= lease),
            other => panic!("expected InFlight before the end of the lease, got {other:?}"),
        }
    }
    assert!(matches!(subject.state(key).await, Some(State::Running { lease_left }) if !lease_left.is_zero()));
    subject.advance(subject.tick()).await;
    for store in subject.both() {
        let answer = claim(store, key, &refused).await;
        assert!(matches!(answer, ClaimOutcome::Abandoned { .. }), "at the end of the lease: {answer:?}");
    }
    assert_eq!(subject.state(key).await, Some(State::Lapsed));
}

/// A record for a tick less than `ttl`, and none then.
async fn vacant_after(subject: &Subject, key: &RecordKey, token: &Token, ttl: Duration) {
    subject.advance(ttl.saturating_sub(subject.tick())).await;
    let record = subject.record(key).await.expect("a record until its time to live has passed");
    assert!(!record.expires_in.is_zero() && record.expires_in <= ttl, "{record:?}");
    let other = ClaimRequest { fingerprint: OTHER_PRINT, ..request() };
    assert!(matches!(claim(subject.b(), key, &other).await, ClaimOutcome::Mismatch));
    subject.advance(subject.tick()).await;
    is_vacant(subject, key, token).await;
    assert_eq!(subject.take(subject.b(), key, &other).await.attempt, 1);
}

/// To every question that does not change it.
async fn is_vacant(subject: &Subject, key: &RecordKey, token: &Token) {
    for store in subject.both() {
        assert_eq!(inspect(store, key).await, None);
        assert_eq!(store.peek(key), None);
        assert_eq!(store.fence(key, token).await.expect("fence"), None);
        assert!(!store.forget(key).await.expect("forget"));
        let page = store.list(Some(subject.operation()), None, 100).await.expect("list");
        assert!(page.records.iter().all(|record| record.key != *key), "an expired record is listed");
    }
}
