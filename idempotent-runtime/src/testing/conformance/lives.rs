//! The life of a key from the claim of the vacant key on: what a claim is told of the runs before it.

use std::time::Duration;

use super::subject::{
    HOLD, LONG, PRINT, Stage, Subject, TAKE_OVER, Taken, applied, claim, ok, request, suspend, suspended,
};
use crate::store::{Before, ClaimOutcome, ClaimRequest, Generation, RecordKey, State, TakeOver, Token, Why};

pub(super) async fn a_claim_tells_what_was_before(subject: &Subject) {
    for stage in [Stage::Lapsed, Stage::Failed, Stage::Abandoned] {
        let key = subject.key(format_args!("{stage:?}"));
        subject.bring(&key, stage).await;
        let pause = subject.tick();
        subject.advance(pause).await;
        let second = ClaimRequest { lease: subject.short_lease(), ..request() };
        let taken = subject.take(subject.b(), &key, &second).await;
        let failed = u32::from(stage == Stage::Failed);
        for again in [taken, subject.take(subject.a(), &key, &second).await] {
            assert_eq!((again.attempt, again.past.failed), (2, failed), "{stage:?}");
            is_before(subject, &again, stage, pause);
        }
        // What the second run was, and not what was before it.
        subject.advance(second.lease + pause).await;
        let third = subject.take(subject.a(), &key, &request()).await;
        assert_eq!((third.attempt, third.past.failed), (3, failed));
        is_before(subject, &third, Stage::Lapsed, pause);
        suspended(suspend(subject.b(), &key, &third.token, Why::Failed).await);
        let fourth = subject.take(subject.a(), &key, &request()).await;
        assert_eq!((fourth.attempt, fourth.past.failed, fourth.past.before), (4, failed + 1, Before::Failed));
    }
    let fresh = subject.take(subject.a(), &subject.key("fresh"), &request()).await;
    assert_eq!((fresh.past.before, fresh.past.failed, fresh.past.has_steps), (Before::Fresh, 0, false));
}

/// The claim was told that the run before ended like this, and this long ago, or longer where time does not stand still.
fn is_before(subject: &Subject, taken: &Taken, stage: Stage, ago: Duration) {
    match (stage, taken.past.before) {
        (Stage::Failed, Before::Failed) => {}
        (Stage::Lapsed | Stage::Abandoned, Before::Abandoned { since }) => {
            assert!(since >= ago && since < ago + LONG / 2, "{since:?} since, and {ago:?} have passed");
            assert!(!subject.is_exact() || since == ago, "{since:?} since, not {ago:?}");
        }
        (stage, before) => panic!("{before:?} after {stage:?}"),
    }
}

/// Whoever held it: nothing is in doubt.
pub(super) async fn a_failed_key_may_always_be_claimed(subject: &Subject) {
    for take_over in TAKE_OVER {
        let key = subject.key(format_args!("{take_over:?}"));
        let held = ClaimRequest { ttl: HOLD, ..request() };
        let token = subject.take(subject.a(), &key, &held).await.token;
        suspended(subject.a().suspend(&key, &token, Why::Failed, Duration::ZERO, HOLD).await);
        let second = subject.take(subject.b(), &key, &request().with_take_over(take_over)).await;
        assert_eq!(second.attempt, 2);
    }
}

pub(super) async fn held_keys_are_taken_over_always(subject: &Subject) {
    for stage in [Stage::Lapsed, Stage::Abandoned] {
        let key = subject.key(format_args!("{stage:?}"));
        let held = ClaimRequest { ttl: HOLD, ..request() };
        let lease = subject.short_lease();
        let token = subject.take(subject.a(), &key, &ClaimRequest { lease, ..held.clone() }).await.token;
        if stage == Stage::Abandoned {
            suspended(subject.b().suspend(&key, &token, Why::Abandoned, Duration::ZERO, HOLD).await);
        } else {
            subject.advance(lease).await;
        }
        for take_over in [TakeOver::Never, TakeOver::UnlessHeld] {
            let refused = ClaimRequest { nonce: request().nonce, ..held.clone().with_take_over(take_over) };
            let refused = claim(subject.b(), &key, &refused).await;
            assert!(matches!(refused, ClaimOutcome::Abandoned { attempt: 1 }), "{take_over:?}: {refused:?}");
        }
        let always = ClaimRequest { nonce: request().nonce, ..held.clone().with_take_over(TakeOver::Always) };
        let second = subject.take(subject.b(), &key, &always).await;
        assert_eq!(second.attempt, 2);
        // The claim holds the key again.
        suspended(subject.a().suspend(&key, &second.token, Why::Unstarted, Duration::ZERO, HOLD).await);
        let refused = claim(subject.a(), &key, &request()).await;
        assert!(matches!(refused, ClaimOutcome::Abandoned { attempt: 1 }), "{refused:?}");
    }
}

/// Its attempt, its state, and since when.
pub(super) async fn what_was_never_started_is_as_it_was(subject: &Subject) {
    for stage in [Stage::Lapsed, Stage::Failed, Stage::Abandoned] {
        let key = subject.key(format_args!("{stage:?}"));
        subject.bring(&key, stage).await;
        let failed = u32::from(stage == Stage::Failed);
        let pause = subject.tick();
        for number in 1..=2 {
            subject.advance(pause).await;
            let unstarted = subject.take(subject.a(), &key, &request()).await;
            assert_eq!(unstarted.attempt, 2, "what did not start does not count");
            suspended(suspend(subject.b(), &key, &unstarted.token, Why::Unstarted).await);
            suspended(suspend(subject.a(), &key, &unstarted.token, Why::Unstarted).await);
            let record = subject.record(&key).await.expect("a record");
            let state = if stage == Stage::Failed { State::Failed } else { State::Abandoned };
            assert_eq!((record.state, record.attempt, record.failed), (state, 1, failed));
            every_end_is_over(subject, &key, &unstarted.token).await;
            let taken = subject.take(subject.b(), &key, &request()).await;
            assert_eq!((taken.attempt, taken.past.failed), (2, failed));
            is_before(subject, &taken, stage, pause * number);
            suspended(suspend(subject.b(), &key, &taken.token, Why::Unstarted).await);
        }
    }

    let key = subject.key("fresh");
    let token = subject.run(&key).await;
    suspended(suspend(subject.b(), &key, &token, Why::Unstarted).await);
    assert_eq!(subject.record(&key).await, None);
    assert_eq!(subject.take(subject.a(), &key, &request()).await.attempt, 1);
}

/// A claim that was given back ends nothing any more.
async fn every_end_is_over(subject: &Subject, key: &RecordKey, token: &Token) {
    let before = subject.record(key).await;
    for store in subject.both() {
        super::subject::lost(store.complete(key, token, &ok(b"late"), LONG).await);
        super::subject::lost(store.renew(key, token, LONG, LONG).await);
    }
    subject.unchanged(key, before.as_ref(), "a step after the end").await;
}

pub(super) async fn a_generation_is_kept_by_takeovers_only(subject: &Subject) {
    let key = subject.key("k");
    let mut lives: Vec<Generation> = Vec::new();
    for end in [Stage::Released, Stage::Forgotten, Stage::Expired, Stage::DoneOk] {
        let first = subject.take(subject.a(), &key, &request()).await;
        let life = first.past.generation;
        assert!(!lives.contains(&life), "two lives with one generation");
        lives.push(life);
        let mut token = first.token;
        for why in [Why::Failed, Why::Abandoned, Why::Failed, Why::Unstarted] {
            let record = subject.record(&key).await.expect("a record");
            assert_eq!((record.generation, record.fingerprint), (life, PRINT));
            suspended(suspend(subject.b(), &key, &token, why).await);
            assert_eq!(subject.record(&key).await.map(|record| record.generation), Some(life), "{why:?}");
            let next = subject.take(subject.a(), &key, &request()).await;
            assert_eq!(next.past.generation, life, "after {why:?}");
            token = next.token;
        }
        let short = subject.tick();
        match end {
            Stage::Released => applied(subject.a().release(&key, &token, LONG).await),
            Stage::Expired => {
                applied(subject.a().renew(&key, &token, short, short).await);
                subject.advance(short * 2).await;
            }
            Stage::DoneOk => {
                applied(subject.a().complete(&key, &token, &ok(b"1"), short).await);
                assert_eq!(subject.record(&key).await.map(|record| record.generation), Some(life), "done");
                subject.advance(short).await;
            }
            _ => assert!(subject.b().forget(&key).await.expect("forget")),
        }
    }
}
