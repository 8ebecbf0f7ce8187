//! The steps of an owner, a former owner and a stranger in every state.

use bytes::Bytes;

use super::subject::{LONG, Stage, Subject, applied, inspect, lost, ok, request, suspend, suspended};
use crate::{
    Store,
    store::{Appended, ClaimRequest, Nonce, RecordKey, State, Step, Suspension, Token, Why},
};

/// The owner's transitions apply while the run has not ended, lapsed or not.
const UNENDED: [Stage; 2] = [Stage::Running, Stage::Lapsed];

pub(super) async fn renew_in_every_state(subject: &Subject) {
    for stage in Stage::all() {
        let key = subject.key(format_args!("{stage:?}"));
        let token = subject.bring(&key, stage).await;
        let before = subject.record(&key).await;
        for store in subject.both() {
            let answer = store.renew(&key, &token, LONG, LONG).await;
            if UNENDED.contains(&stage) {
                applied(answer);
                assert!(matches!(subject.state(&key).await, Some(State::Running { .. })), "{stage:?}");
            } else {
                lost(answer);
                subject.unchanged(&key, before.as_ref(), "a lost renewal").await;
            }
        }
    }
}

pub(super) async fn complete_in_every_state(subject: &Subject) {
    for stage in Stage::all() {
        let key = subject.key(format_args!("{stage:?}"));
        let token = subject.bring(&key, stage).await;
        let before = subject.record(&key).await;
        let (first, repeat) = (ok(b"first"), ok(b"another result, and longer"));
        if UNENDED.contains(&stage) {
            applied(subject.a().complete(&key, &token, &first, LONG).await);
            let done = subject.record(&key).await;
            assert_eq!(done.clone().map(|record| record.state), Some(State::Done(first)));
            for store in subject.both() {
                applied(store.complete(&key, &token, &repeat, LONG * 2).await);
            }
            subject.unchanged(&key, done.as_ref(), "a repeated completion").await;
            continue;
        }
        for store in subject.both() {
            let answer = store.complete(&key, &token, &repeat, LONG * 2).await;
            if Stage::DONE.contains(&stage) { applied(answer) } else { lost(answer) }
        }
        subject.unchanged(&key, before.as_ref(), "a completion after the end").await;
    }
}

pub(super) async fn release_in_every_state(subject: &Subject) {
    for stage in Stage::all() {
        let key = subject.key(format_args!("{stage:?}"));
        let token = subject.bring(&key, stage).await;
        let before = subject.record(&key).await;
        for store in subject.both() {
            let answer = store.release(&key, &token, LONG).await;
            if stage.is_vacant() || UNENDED.contains(&stage) {
                applied(answer);
                assert_eq!(subject.record(&key).await, None, "{stage:?}");
            } else {
                // A failed record is what a release of a key with steps leaves.
                if stage == Stage::Failed {
                    applied(answer);
                } else {
                    lost(answer);
                }
                subject.unchanged(&key, before.as_ref(), "a release after the end").await;
            }
        }
    }
}

pub(super) async fn suspend_in_every_state(subject: &Subject) {
    for why in [Why::Abandoned, Why::Failed, Why::Unstarted] {
        for stage in Stage::all() {
            let key = subject.key(format_args!("{why:?}-{stage:?}"));
            let token = subject.bring(&key, stage).await;
            let mut before = subject.record(&key).await;
            if UNENDED.contains(&stage) {
                suspended(suspend(subject.a(), &key, &token, why).await);
                before = subject.record(&key).await;
                let expected = match why {
                    Why::Abandoned => Some((State::Abandoned, 0)),
                    Why::Failed => Some((State::Failed, 1)),
                    Why::Unstarted => None,
                };
                let shown = before.as_ref().map(|record| (record.state.clone(), record.failed));
                assert_eq!(shown, expected, "{stage:?}, {why:?}");
            }
            let is_vacant = before.is_none();
            for store in subject.both() {
                let answer = store.suspend(&key, &token, why, LONG, LONG).await.expect("a suspension");
                let expected = match stage.outcome() {
                    Some(outcome) => Suspension::ended(outcome, true),
                    None if is_vacant => Suspension::Vacant,
                    None => Suspension::Applied,
                };
                assert_eq!(answer, expected, "{stage:?}, {why:?}");
            }
            subject.unchanged(&key, before.as_ref(), "a suspension after the end").await;
        }
    }
}

pub(super) async fn fence_in_every_state(subject: &Subject) {
    for stage in Stage::all() {
        let key = subject.key(format_args!("{stage:?}"));
        let token = subject.bring(&key, stage).await;
        let before = subject.record(&key).await;
        for store in subject.both() {
            let fence = store.fence(&key, &token).await.expect("fence");
            assert_eq!(fence.is_some(), UNENDED.contains(&stage), "{stage:?}");
        }
        subject.unchanged(&key, before.as_ref(), "asking for the fence").await;
    }
}

pub(super) async fn strangers_change_nothing(subject: &Subject) {
    for stage in Stage::PRESENT {
        let key = subject.key(format_args!("{stage:?}"));
        subject.bring(&key, stage).await;
        let stranger = Token::new(request().nonce);
        changes_nothing(subject, &key, &stranger).await;
    }
}

/// B took over from A, and is in every state that it can come to; A wakes up.
pub(super) async fn late_owner_changes_nothing(subject: &Subject) {
    for lapsed in [true, false] {
        for stage in Stage::PRESENT {
            let key = subject.key(format_args!("{lapsed}-{stage:?}"));
            let a = subject.bring(&key, if lapsed { Stage::Lapsed } else { Stage::Abandoned }).await;
            let lease = if stage == Stage::Lapsed { subject.short_lease() } else { LONG };
            let b = subject.take(subject.b(), &key, &ClaimRequest { lease, ..request() }).await.token;
            match stage {
                Stage::Lapsed => subject.advance(lease).await,
                Stage::Failed => suspended(suspend(subject.b(), &key, &b, Why::Failed).await),
                Stage::Abandoned => suspended(suspend(subject.b(), &key, &b, Why::Abandoned).await),
                _ => {}
            }
            if let Some(outcome) = stage.outcome() {
                applied(subject.b().complete(&key, &b, &outcome, LONG).await);
            }
            changes_nothing(subject, &key, &a).await;
            if UNENDED.contains(&stage) {
                applied(subject.b().complete(&key, &b, &ok(b"b"), LONG).await);
                assert_eq!(subject.state(&key).await, Some(State::Done(ok(b"b"))));
            }
        }
    }
}

pub(super) async fn late_owner_is_not_known_after_a_release_or_forget(subject: &Subject) {
    for stage in Stage::VACANT {
        let key = subject.key(format_args!("{stage:?}"));
        let a = subject.bring(&key, stage).await;
        let b = subject.take(subject.b(), &key, &request()).await.token;
        changes_nothing(subject, &key, &a).await;
        applied(subject.b().complete(&key, &b, &ok(b"b"), LONG).await);
        changes_nothing(subject, &key, &a).await;
    }
}

pub(super) async fn nonces_that_differ_in_a_bit_are_strangers(subject: &Subject) {
    let key = subject.key("k");
    let owner = subject.run(&key).await;
    for byte in 0..Nonce::LEN {
        let mut bytes = *owner.nonce.as_bytes();
        bytes[byte] ^= 1 << (byte % 8);
        changes_nothing(subject, &key, &Token::new(Nonce::from_bytes(bytes)).with_fence(owner.fence)).await;
    }
    // The text forms in which a nonce may be kept must not merge these.
    for bytes in [[0; Nonce::LEN], [b' '; Nonce::LEN], [0xFF; Nonce::LEN]] {
        let key = subject.key(bytes[0]);
        let nonce = Nonce::from_bytes(bytes);
        let taken = subject.take(subject.a(), &key, &ClaimRequest { nonce, ..request() }).await;
        applied(subject.b().complete(&key, &taken.token, &ok(b""), LONG).await);
    }
}

/// Whatever a token that owns nothing is used for.
async fn changes_nothing(subject: &Subject, key: &RecordKey, token: &Token) {
    let before = subject.record(key).await;
    for store in subject.both() {
        every_transition_is_lost(store, key, token).await;
        assert_eq!(store.fence(key, token).await.expect("fence"), None);
    }
    subject.unchanged(key, before.as_ref(), "a token that owns nothing").await;
    assert!(inspect(subject.a(), key).await.is_some());
}

async fn every_transition_is_lost(store: &dyn Store, key: &RecordKey, token: &Token) {
    lost(store.renew(key, token, LONG * 2, LONG).await);
    lost(store.complete(key, token, &ok(b"late"), LONG).await);
    lost(store.release(key, token, LONG).await);
    for why in [Why::Abandoned, Why::Failed, Why::Unstarted] {
        let expected = match inspect(store, key).await.map(|record| record.state) {
            Some(State::Done(outcome)) => Suspension::ended(outcome, false),
            Some(_) => Suspension::Taken,
            None => Suspension::Vacant,
        };
        assert_eq!(suspend(store, key, token, why).await.expect("a suspension"), expected);
    }
    let step = Step::new("late".to_owned(), Ok(Bytes::new()));
    assert_eq!(store.append(key, token, &step, LONG, LONG).await.expect("append"), Appended::Lost);
    assert_eq!(store.steps(key, token).await.expect("steps"), None);
}
