//! Recorded arguments and contexts: in the record for as long as it is there, and nobody else's.

use std::sync::Arc;

use bytes::Bytes;

use super::subject::{LONG, OTHER_PRINT, Stage, Subject, applied, claim, ok, request, suspend, suspended};
use crate::store::{Appended, ClaimOutcome, ClaimRequest, Outcome, RecordKey, State, Step, TakeOver, Why};

const GIVEN: Option<Bytes> = Some(Bytes::from_static(b"{\"amount\":4200,\"to\":\"\xC3\xA9\"}"));

fn recording(arguments: Option<Bytes>) -> ClaimRequest {
    request().with_arguments(arguments)
}

async fn shown(subject: &Subject, key: &RecordKey) -> Option<Bytes> {
    subject.record(key).await.expect("a record").arguments
}

pub(super) async fn arguments_are_kept_in_every_state(subject: &Subject) {
    for stage in Stage::standing() {
        let key = subject.key(format_args!("{stage:?}"));
        let token = subject.bring_with(&key, stage, recording(GIVEN)).await;
        let before = subject.record(&key).await;
        assert_eq!(shown(subject, &key).await, GIVEN, "{stage:?}");

        // A claim that is not granted leaves nothing behind.
        for store in subject.both() {
            let mine = Some(Bytes::from_static(b"{\"amount\":1}"));
            let refused = recording(mine.clone()).with_take_over(TakeOver::Never);
            let answer = claim(store, &key, &refused).await;
            if let (ClaimOutcome::Done(finished), Some(outcome)) = (&answer, stage.outcome()) {
                assert_eq!(finished.outcome, outcome, "the result is not the arguments' neighbour");
            }
            claim(store, &key, &ClaimRequest { fingerprint: OTHER_PRINT, ..recording(mine.clone()) }).await;
            claim(store, &key, &ClaimRequest { nonce: token.nonce, ..recording(mine).with_take_over(TakeOver::Never) })
                .await;
            claim(store, &key, &ClaimRequest { nonce: token.nonce, ..recording(None).with_take_over(TakeOver::Never) })
                .await;
            store.fence(&key, &token).await.expect("fence");
            drop(store.subscribe(&key).await.expect("subscribe"));
        }
        subject.unchanged(&key, before.as_ref(), "what others asked").await;

        if matches!(stage, Stage::Running | Stage::Lapsed) {
            applied(subject.b().renew(&key, &token, LONG, LONG).await);
            assert_eq!(shown(subject, &key).await, GIVEN, "renewed after {stage:?}");
            applied(subject.b().complete(&key, &token, &ok(b"late"), LONG).await);
            let record = subject.record(&key).await.expect("a record");
            assert_eq!(
                (record.state, record.arguments),
                (State::Done(ok(b"late")), GIVEN),
                "completed after {stage:?}"
            );
        }
    }
}

pub(super) async fn arguments_are_absent_unless_given(subject: &Subject) {
    for stage in Stage::PRESENT {
        let key = subject.key(format_args!("{stage:?}"));
        subject.bring(&key, stage).await;
        assert_eq!(shown(subject, &key).await, None, "{stage:?}");
    }
}

pub(super) async fn arguments_come_back_byte_for_byte(subject: &Subject) {
    let texts = [&b""[..], b"{}", b"null", b"0", b"\0", b"\0\0\0\x01", b"\xFF\xFE", b"'; --", b" {} "];
    let every_byte: Bytes = (0..=255).collect();
    let largest: Bytes = (0..64 * 1024_u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let large_result = Outcome::Ok(vec![b'r'; 1 << 20].into());
    let outcomes = [ok(b""), ok(b"1"), Outcome::Err(largest.clone()), large_result];
    for (number, bytes) in texts.map(Bytes::from_static).into_iter().chain([every_byte, largest]).enumerate() {
        for (nth, outcome) in outcomes.iter().enumerate() {
            let key = subject.key(format_args!("{number}-{nth}"));
            let token = subject.take(subject.a(), &key, &recording(Some(bytes.clone()))).await.token;
            assert!(shown(subject, &key).await.as_ref() == Some(&bytes), "others came back while it ran");
            applied(subject.b().complete(&key, &token, outcome, LONG).await);
            assert!(shown(subject, &key).await.as_ref() == Some(&bytes), "others came back when it was done");
            assert!(subject.state(&key).await == Some(State::Done(outcome.clone())), "another result came back");
            match claim(subject.a(), &key, &recording(Some(bytes.clone()))).await {
                ClaimOutcome::Done(finished) => assert!(finished.outcome == *outcome, "another result was answered"),
                other => panic!("expected Done, got {other:?}"),
            }
        }
    }
}

pub(super) async fn arguments_are_those_of_the_claim_that_took_over(subject: &Subject) {
    let other = Some(Bytes::from_static(b"{\"amount\": 4.2e3, \"to\":\"\\u00e9\"}"));
    for stage in [Stage::Abandoned, Stage::Lapsed] {
        for (number, [first, second]) in
            [[GIVEN, GIVEN], [GIVEN, other.clone()], [GIVEN, None], [None, GIVEN]].into_iter().enumerate()
        {
            let key = subject.key(format_args!("{stage:?}-{number}"));
            subject.bring_with(&key, stage, recording(first)).await;
            let token = subject.take(subject.b(), &key, &recording(second.clone())).await.token;
            assert_eq!(shown(subject, &key).await, second, "{stage:?} {number}");
            applied(subject.a().complete(&key, &token, &ok(b"1"), LONG).await);
            assert_eq!(shown(subject, &key).await, second, "{stage:?} {number}, done");
        }
    }
}

pub(super) async fn arguments_end_with_their_record(subject: &Subject) {
    for stage in Stage::VACANT {
        let key = subject.key(format_args!("{stage:?}"));
        subject.bring_with(&key, stage, recording(GIVEN)).await;
        let token = subject.run(&key).await;
        assert_eq!(shown(subject, &key).await, None, "{stage:?}");
        applied(subject.a().complete(&key, &token, &ok(b"1"), LONG).await);
        assert_eq!(shown(subject, &key).await, None, "{stage:?}, done");
    }
}

/// Of any text, and beside any arguments.
pub(super) async fn a_context_is_kept_like_arguments(subject: &Subject) {
    let contexts = ["", "request 17", "'; --", "\u{e9}\u{fffd}\n", &"c".repeat(256), &"long ".repeat(200)];
    let contexts: Vec<Option<Arc<str>>> = contexts.into_iter().map(|text| Some(text.into())).chain([None]).collect();
    for stage in Stage::PRESENT {
        for (number, context) in contexts.iter().enumerate() {
            for arguments in [None, Some(Bytes::new()), GIVEN] {
                let key = subject.key(format_args!("{stage:?}-{number}-{:?}", arguments.as_ref().map(Bytes::len)));
                let mine = recording(arguments.clone()).with_context(context.clone());
                let token = subject.bring_with(&key, stage, mine).await;
                let record = subject.record(&key).await.expect("a record");
                assert_eq!((&record.context, &record.arguments), (context, &arguments), "{stage:?}");
                let other = request().with_take_over(TakeOver::Never).with_context(Arc::from("another"));
                let next = contexts.get(number + 1).cloned().flatten();
                match claim(subject.b(), &key, &other).await {
                    // Of the claim that took over, and of no other.
                    ClaimOutcome::Claimed { token, .. } => {
                        let record = subject.record(&key).await.expect("a record");
                        assert_eq!((record.context.as_deref(), record.arguments), (Some("another"), None));
                        suspended(suspend(subject.a(), &key, &token, Why::Abandoned).await);
                    }
                    _ => subject.unchanged(&key, Some(&record), "a claim that was refused").await,
                }
                if stage == Stage::Running {
                    subject.b().fence(&key, &token).await.expect("fence");
                    drop(subject.b().subscribe(&key).await.expect("subscribe"));
                    applied(subject.b().renew(&key, &token, LONG, LONG).await);
                    let step = Step::new("s".to_owned(), Ok(Bytes::from_static(b"1")));
                    assert_eq!(
                        subject.b().append(&key, &token, &step, LONG, LONG).await.expect("append"),
                        Appended::Applied
                    );
                    suspended(suspend(subject.a(), &key, &token, Why::Abandoned).await);
                    let second = recording(arguments.clone()).with_context(next.clone());
                    let second = subject.take(subject.b(), &key, &second).await.token;
                    assert_eq!(subject.b().steps(&key, &second).await.expect("steps"), Some(vec![step]));
                    applied(subject.a().complete(&key, &second, &ok(b"done"), LONG).await);
                    let record = subject.record(&key).await.expect("a record");
                    assert_eq!((record.context, record.arguments), (next, arguments), "taken over, and done");
                    assert_eq!(record.state, State::Done(ok(b"done")));
                }
            }
        }
    }
    for stage in Stage::VACANT {
        let key = subject.key(format_args!("{stage:?}"));
        subject.bring_with(&key, stage, request().with_context(Arc::from("gone"))).await;
        subject.run(&key).await;
        assert_eq!(subject.record(&key).await.expect("a record").context, None, "{stage:?}");
    }
}
