//! The answers to a claim in every state.

use std::time::Duration;

use bytes::Bytes;

use super::subject::{
    HOLD, LONG, OTHER_PRINT, PRINT, Stage, Subject, TAKE_OVER, applied, claim, ok, request, suspend, suspended,
};
use crate::{
    Fingerprint, Store,
    store::{Appended, Before, ClaimOutcome, ClaimRequest, Finished, RecordKey, State, Step, TakeOver, Token, Why},
};

pub(super) async fn vacant_key_is_claimed(subject: &Subject) {
    for (number, store) in subject.both().into_iter().enumerate() {
        let key = subject.key(number);
        assert_eq!(subject.record(&key).await, None);
        let taken = subject.take(store, &key, &request()).await;
        assert_eq!(taken.attempt, 1);
        let record = subject.record(&key).await.expect("a claimed key has a record");
        assert_eq!((record.fingerprint, record.attempt), (PRINT, 1));
        assert!(matches!(record.state, State::Running { lease_left } if !lease_left.is_zero() && lease_left <= LONG));
    }
}

pub(super) async fn running_key_is_in_flight(subject: &Subject) {
    let key = subject.key("k");
    subject.run(&key).await;
    let before = subject.record(&key).await;
    for take_over in TAKE_OVER {
        for store in subject.both() {
            match claim(store, &key, &request().with_take_over(take_over)).await {
                ClaimOutcome::InFlight { retry_after } => assert!(!retry_after.is_zero() && retry_after <= LONG),
                other => panic!("expected InFlight, got {other:?}"),
            }
        }
    }
    subject.unchanged(&key, before.as_ref(), "a claim of a running key").await;
}

pub(super) async fn done_key_answers_its_result(subject: &Subject) {
    for stage in Stage::DONE {
        let key = subject.key(format_args!("{stage:?}"));
        let token = subject.bring(&key, stage).await;
        let before = subject.record(&key).await;
        let expected =
            Finished { fingerprint: PRINT, attempt: 1, outcome: stage.outcome().expect("the stage is done") };
        for nonce in [token.nonce, request().nonce] {
            for store in subject.both() {
                match claim(store, &key, &ClaimRequest { nonce, ..request() }).await {
                    ClaimOutcome::Done(finished) => assert_eq!(finished, expected),
                    other => panic!("expected Done, got {other:?}"),
                }
                assert!(store.peek(&key).is_none_or(|peeked| peeked == expected));
            }
        }
        subject.unchanged(&key, before.as_ref(), "a claim of a done key").await;
    }
}

pub(super) async fn another_fingerprint_is_a_mismatch_in_every_state(subject: &Subject) {
    for stage in Stage::PRESENT {
        let key = subject.key(format_args!("{stage:?}"));
        let token = subject.bring(&key, stage).await;
        let before = subject.record(&key).await;
        for take_over in TAKE_OVER {
            for nonce in [token.nonce, request().nonce] {
                for store in subject.both() {
                    let other = ClaimRequest { fingerprint: OTHER_PRINT, nonce, ..request().with_take_over(take_over) };
                    let answer = claim(store, &key, &other).await;
                    assert!(matches!(answer, ClaimOutcome::Mismatch), "{stage:?}: {answer:?}");
                }
            }
        }
        subject.unchanged(&key, before.as_ref(), "a mismatch").await;
    }
}

pub(super) async fn every_bit_of_the_fingerprint_counts(subject: &Subject) {
    let key = subject.key("k");
    subject.run(&key).await;
    for byte in 0..Fingerprint::LEN {
        let mut bytes = *PRINT.as_bytes();
        bytes[byte] ^= 1 << (byte % 8);
        let near = ClaimRequest { fingerprint: Fingerprint::from_bytes(bytes), ..request() };
        let answer = claim(subject.a(), &key, &near).await;
        assert!(matches!(answer, ClaimOutcome::Mismatch), "byte {byte}: {answer:?}");
    }
}

pub(super) async fn same_nonce_is_the_same_claim(subject: &Subject) {
    for stage in [Stage::Running, Stage::Lapsed] {
        let key = subject.key(format_args!("{stage:?}"));
        let token = subject.bring(&key, stage).await;
        for take_over in TAKE_OVER {
            for store in subject.both() {
                let again = ClaimRequest { nonce: token.nonce, ..request().with_take_over(take_over) };
                let repeat = subject.take(store, &key, &again).await;
                assert_eq!(repeat.attempt, 1, "{stage:?}: a repeat is not a new attempt");
                assert_eq!(repeat.token.fence, token.fence, "{stage:?}: a repeat has the claim's fence");
                assert_eq!(repeat.past.before, Before::Fresh, "{stage:?}: a repeat has the claim's past");
            }
        }
        applied(subject.b().complete(&key, &token, &ok(b"1"), LONG).await);
    }
}

/// A delayed try of a claim arrives after its run was suspended. Granted, it would begin a run that nobody has: its caller
/// was answered long ago.
pub(super) async fn a_suspended_claim_is_not_granted_again(subject: &Subject) {
    for why in [Why::Failed, Why::Abandoned] {
        let key = subject.key(format_args!("{why:?}"));
        let first = subject.run(&key).await;
        suspended(suspend(subject.b(), &key, &first, why).await);
        is_not_granted_again(subject, &key, &first, 1).await;
        // A claim that took the key over is the last one from then on.
        let second = subject.take(subject.a(), &key, &request()).await;
        assert_eq!(second.attempt, 2);
        suspended(suspend(subject.b(), &key, &second.token, why).await);
        is_not_granted_again(subject, &key, &second.token, 2).await;
        let third = subject.take(subject.a(), &key, &request()).await.token;
        suspended(suspend(subject.b(), &key, &third, Why::Unstarted).await);
        is_not_granted_again(subject, &key, &third, 2).await;
        assert_eq!(subject.take(subject.b(), &key, &request()).await.attempt, 3, "another claim takes the key over");
    }

    let key = subject.key("released");
    let first = subject.run(&key).await;
    appended(subject.a(), &key, &first).await;
    applied(subject.b().release(&key, &first, LONG).await);
    is_not_granted_again(subject, &key, &first, 1).await;

    // A claim may still not be told that it is too early where it is, or may never be granted.
    let key = subject.key("paused");
    let first = subject.run(&key).await;
    suspended(subject.a().suspend(&key, &first, Why::Abandoned, LONG, LONG).await);
    let again = ClaimRequest { nonce: first.nonce, ..request() };
    let answer = claim(subject.b(), &key, &again).await;
    assert!(
        matches!(answer, ClaimOutcome::Suspended { retry_after, attempt: 1 } if retry_after > LONG / 2),
        "{answer:?}"
    );
    let never = claim(subject.b(), &key, &again.with_take_over(TakeOver::Never)).await;
    assert!(matches!(never, ClaimOutcome::Abandoned { attempt: 1 }), "{never:?}");
}

/// The claim is answered as if it were too early, and changes nothing.
async fn is_not_granted_again(subject: &Subject, key: &RecordKey, token: &Token, ended: u32) {
    let before = subject.record(key).await;
    for store in subject.both() {
        for arguments in [None, Some(Bytes::from_static(b"late"))] {
            let again = ClaimRequest { nonce: token.nonce, ..request().with_arguments(arguments) };
            let late = claim(store, key, &again.with_take_over(TakeOver::Always)).await;
            match late {
                ClaimOutcome::Suspended { retry_after, attempt } => {
                    assert!(!retry_after.is_zero() && retry_after < LONG / 2, "{retry_after:?}");
                    assert_eq!(attempt, ended);
                }
                other => panic!("expected Suspended, got {other:?}"),
            }
        }
    }
    subject.unchanged(key, before.as_ref(), "a claim that has ended").await;
}

async fn appended(store: &dyn Store, key: &RecordKey, token: &Token) {
    let step = Step::new("step".to_owned(), Ok(Bytes::from_static(b"1")));
    assert_eq!(store.append(key, token, &step, LONG, LONG).await.expect("append"), Appended::Applied);
}

pub(super) async fn abandoned_and_lapsed_are_taken_over(subject: &Subject) {
    for stage in [Stage::Abandoned, Stage::Lapsed] {
        let key = subject.key(format_args!("{stage:?}"));
        let first = subject.bring(&key, stage).await;
        let lease = subject.short_lease();
        let second = subject.take(subject.b(), &key, &ClaimRequest { lease, ..request() }).await;
        assert_eq!(second.attempt, 2);
        let record = subject.record(&key).await.expect("a record");
        assert_eq!((record.fingerprint, record.attempt), (PRINT, 2));
        assert!(matches!(record.state, State::Running { .. }), "{record:?}");

        // The first owner asks for its claim again: it is not its any more.
        let late = claim(subject.a(), &key, &ClaimRequest { nonce: first.nonce, ..request() }).await;
        assert!(matches!(late, ClaimOutcome::InFlight { .. }), "{late:?}");

        subject.advance(lease).await;
        let third = subject.take(subject.a(), &key, &request()).await;
        assert_eq!(third.attempt, 3);
        applied(subject.a().complete(&key, &third.token, &ok(b"3"), LONG).await);
        match claim(subject.b(), &key, &request()).await {
            ClaimOutcome::Done(finished) => assert_eq!((finished.attempt, finished.outcome), (3, ok(b"3"))),
            other => panic!("expected Done, got {other:?}"),
        }
    }
}

pub(super) async fn takeover_is_refused_where_not_allowed(subject: &Subject) {
    for stage in [Stage::Abandoned, Stage::Lapsed] {
        let key = subject.key(format_args!("{stage:?}"));
        subject.bring(&key, stage).await;
        let before = subject.record(&key).await;
        for store in subject.both() {
            match claim(store, &key, &request().with_take_over(TakeOver::Never)).await {
                ClaimOutcome::Abandoned { attempt } => assert_eq!(attempt, 1),
                other => panic!("{stage:?}: expected Abandoned, got {other:?}"),
            }
        }
        subject.unchanged(&key, before.as_ref(), "a refused takeover").await;
        assert_eq!(subject.take(subject.a(), &key, &request()).await.attempt, 2);
    }
}

pub(super) async fn held_keys_are_not_taken_over(subject: &Subject) {
    let held = || ClaimRequest { ttl: HOLD, ..request() };
    for abandoned in [true, false] {
        let key = subject.key(format_args!("{abandoned}"));
        let lease = subject.short_lease();
        let token = subject.take(subject.a(), &key, &ClaimRequest { lease, ..held() }).await.token;
        // Renewed as it was claimed, it stays held.
        applied(subject.b().renew(&key, &token, lease, HOLD).await);
        if abandoned {
            suspended(subject.a().suspend(&key, &token, Why::Abandoned, Duration::ZERO, HOLD).await);
        }
        subject.advance(lease).await;
        let before = subject.record(&key).await;
        for store in subject.both() {
            for request in [request(), held(), request().with_take_over(TakeOver::Never)] {
                match claim(store, &key, &request).await {
                    ClaimOutcome::Abandoned { attempt } => assert_eq!(attempt, 1),
                    other => panic!("expected Abandoned, got {other:?}"),
                }
            }
            let other = claim(store, &key, &ClaimRequest { fingerprint: OTHER_PRINT, ..request() }).await;
            assert!(matches!(other, ClaimOutcome::Mismatch), "{other:?}");
        }
        subject.unchanged(&key, before.as_ref(), "a claim of a held key").await;

        if abandoned {
            assert!(subject.b().forget(&key).await.expect("forget"));
            assert_eq!(subject.take(subject.a(), &key, &request()).await.attempt, 1);
        } else {
            // The owner is late, and still the owner.
            applied(subject.a().complete(&key, &token, &ok(b"late"), HOLD).await);
            let done = claim(subject.b(), &key, &request()).await;
            assert!(matches!(done, ClaimOutcome::Done(_)), "{done:?}");
        }
    }

    // The owner renews for less, and gives the hold up.
    let key = subject.key("given-up");
    let lease = subject.short_lease();
    let token = subject.take(subject.a(), &key, &held()).await.token;
    applied(subject.a().renew(&key, &token, lease, LONG).await);
    subject.advance(lease).await;
    assert_eq!(subject.take(subject.b(), &key, &request()).await.attempt, 2);
}

pub(super) async fn released_forgotten_and_expired_keys_start_anew(subject: &Subject) {
    for stage in Stage::VACANT {
        let key = subject.key(format_args!("{stage:?}"));
        subject.bring(&key, stage).await;
        assert_eq!(subject.record(&key).await, None, "{stage:?}");
        let other = ClaimRequest { fingerprint: OTHER_PRINT, ..request().with_take_over(TakeOver::Never) };
        assert_eq!(subject.take(subject.b(), &key, &other).await.attempt, 1, "{stage:?}");
        assert_eq!(subject.record(&key).await.map(|record| record.fingerprint), Some(OTHER_PRINT));
    }
}

/// Across takeover, release, abandonment, completion, forgetting and expiry, through both handles.
pub(super) async fn fences_rise(subject: &Subject) {
    let key = subject.key("k");
    let mut last = 0;
    for stage in [
        Stage::Lapsed,
        Stage::Abandoned,
        Stage::Released,
        Stage::Forgotten,
        Stage::Running,
        Stage::DoneOk,
        Stage::Expired,
        Stage::Forgotten,
    ] {
        let lease = if stage == Stage::Lapsed { subject.short_lease() } else { LONG };
        let taken = subject.take(subject.a(), &key, &ClaimRequest { lease, ..request() }).await;
        last = rises(subject, &key, &taken.token, last).await;
        match stage {
            Stage::Lapsed => subject.advance(lease).await,
            Stage::Abandoned => suspended(suspend(subject.b(), &key, &taken.token, Why::Abandoned).await),
            Stage::Released => applied(subject.b().release(&key, &taken.token, LONG).await),
            Stage::Expired => {
                applied(subject.b().complete(&key, &taken.token, &ok(b""), subject.tick()).await);
                subject.advance(subject.tick()).await;
            }
            Stage::DoneOk => {
                applied(subject.b().complete(&key, &taken.token, &ok(b""), LONG).await);
                assert!(subject.b().forget(&key).await.expect("forget"));
            }
            _ => assert!(subject.b().forget(&key).await.expect("forget")),
        }
    }
}

/// The claim's fence, the same however often and wherever it is asked for, is above the one before.
async fn rises(subject: &Subject, key: &RecordKey, token: &Token, last: u64) -> u64 {
    let fence = subject.a().fence(key, token).await.expect("fence").expect("the owner has a fence");
    assert!(token.fence.is_none_or(|known| known == fence), "the token has another fence");
    assert!(fence > last, "fence {fence} after {last}");
    for store in subject.both() {
        assert_eq!(store.fence(key, token).await.expect("fence"), Some(fence), "a fence is made once");
    }
    fence
}
