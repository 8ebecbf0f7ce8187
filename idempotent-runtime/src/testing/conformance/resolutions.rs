//! What an operator says of a record that is open, and when it counts.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::{sync::Barrier, task::JoinSet};

use super::subject::{
    HOLD, LONG, PRINT, Stage, Subject, TAKE_OVER, applied, claim, lost, ok, request, suspend, suspended,
};
use crate::{
    Store,
    store::{
        Appended, Before, ClaimOutcome, ClaimRequest, Finished, NotKept, Outcome, Record, RecordKey, Resolution,
        ResolveRequest, Resolved, State, Step, Suspension, TakeOver, Why,
    },
};

const WORD: &str = "resolved by alice: the bank's statement has it";

/// Those whose run is not alive.
const OPEN: [Stage; 3] = [Stage::Lapsed, Stage::Failed, Stage::Abandoned];

fn saying(seen: &Record, resolution: Resolution) -> ResolveRequest {
    ResolveRequest::new(seen.seen(), resolution, LONG, WORD)
}

pub(super) async fn resolve(store: &dyn Store, key: &RecordKey, request: &ResolveRequest) -> Resolved {
    store.resolve(key, request).await.expect("resolve")
}

fn resolutions() -> [Resolution; 3] {
    [Resolution::Done(ok(b"said")), Resolution::Failed, Resolution::Vacant]
}

async fn seen(subject: &Subject, key: &RecordKey) -> Record {
    subject.record(key).await.expect("a record")
}

pub(super) async fn an_operator_says_what_happened(subject: &Subject) {
    let outcomes = [
        ok(b"\"said\""),
        ok(b""),
        Outcome::Err(vec![b'e'; 100_000].into()),
        Outcome::NotKept(NotKept::TooLarge),
        Outcome::Exhausted,
    ];
    for stage in OPEN.into_iter().chain(Stage::DONE) {
        for (number, outcome) in outcomes.iter().enumerate() {
            let key = subject.key(format_args!("{stage:?}-{number}"));
            let arguments = (number % 2 == 0).then(|| Bytes::from_static(b"{\"a\":1}"));
            let context = (number % 3 == 0).then(|| Arc::from("request 17"));
            let first = request().with_arguments(arguments.clone()).with_context(context);
            let owner = subject.bring_with(&key, stage, first).await;
            let before = seen(subject, &key).await;
            let saying = saying(&before, Resolution::Done(outcome.clone()));
            assert_eq!(resolve(subject.b(), &key, &saying).await, Resolved::Applied, "{stage:?} {outcome:?}");

            let after = seen(subject, &key).await;
            assert_eq!(after.state, State::Done(outcome.clone()), "{stage:?}");
            assert_eq!((after.attempt, after.failed), (before.attempt, before.failed), "{stage:?}");
            assert_eq!((after.fingerprint, after.generation), (before.fingerprint, before.generation), "{stage:?}");
            assert_eq!((&after.arguments, after.context.as_deref()), (&arguments, Some(WORD)), "{stage:?}");
            assert_eq!((after.owner, after.not_before), (saying.nonce, None), "{stage:?}");
            assert!(after.expires_in <= LONG && after.expires_in > LONG / 2, "{:?}", after.expires_in);
            assert!(!subject.is_exact() || after.expires_in == LONG);
            for take_over in TAKE_OVER {
                match claim(subject.a(), &key, &request().with_take_over(take_over)).await {
                    ClaimOutcome::Done(answered) => {
                        assert_eq!(answered, Finished::new(PRINT, before.attempt, outcome.clone()), "{stage:?}");
                    }
                    other => panic!("{stage:?}: expected Done, got {other:?}"),
                }
            }
            // To the owner it is a takeover.
            lost(subject.a().complete(&key, &owner, &ok(b"late"), LONG).await);
            lost(subject.a().renew(&key, &owner, LONG, LONG).await);
            let ended = suspend(subject.a(), &key, &owner, Why::Abandoned).await.expect("suspend");
            assert_eq!(ended, Suspension::ended(outcome.clone(), false), "{stage:?}");
            subject.unchanged(&key, Some(&after), "a late owner").await;
        }
    }
}

pub(super) async fn what_did_not_happen_is_run_again(subject: &Subject) {
    for stage in OPEN.into_iter().chain(Stage::DONE) {
        for (number, take_over) in TAKE_OVER.into_iter().enumerate() {
            let key = subject.key(format_args!("{stage:?}-{number}"));
            // It is held, and it is paused.
            let held = ClaimRequest { ttl: HOLD, ..request() };
            let owner = subject.bring_with(&key, stage, held).await;
            let owner = if stage == Stage::Abandoned {
                let always = request().with_take_over(TakeOver::Always);
                let second = subject.take(subject.b(), &key, &always).await.token;
                suspended(subject.b().suspend(&key, &second, Why::Abandoned, LONG, HOLD).await);
                second
            } else {
                owner
            };
            let before = seen(subject, &key).await;
            let saying = saying(&before, Resolution::Failed);
            assert_eq!(resolve(subject.b(), &key, &saying).await, Resolved::Applied, "{stage:?}");
            let after = seen(subject, &key).await;
            assert_eq!((after.attempt, after.failed, after.not_before), (0, 0, None), "{stage:?}");
            assert_eq!((after.state, after.context.as_deref()), (State::Failed, Some(WORD)), "{stage:?}");
            assert_eq!(after.generation, before.generation, "{stage:?}");

            let mine = request().with_take_over(take_over);
            let taken = subject.take(subject.a(), &key, &mine).await;
            assert_eq!((taken.attempt, taken.past.failed, taken.past.before), (1, 0, Before::Failed), "{stage:?}");
            assert_eq!(taken.past.generation, before.generation, "{stage:?}");
            lost(subject.a().complete(&key, &owner, &ok(b"late"), LONG).await);
            // The word is about the run before.
            assert_eq!(seen(subject, &key).await.context, None, "{stage:?}");
            suspended(suspend(subject.b(), &key, &taken.token, Why::Unstarted).await);
            assert_eq!(seen(subject, &key).await.attempt, 0, "{stage:?}: what did not start does not count");
        }
    }
}

pub(super) async fn fences_rise_across_a_resolution(subject: &Subject) {
    let key = subject.key("k");
    let mut last = 0;
    for resolution in resolutions().into_iter().cycle().take(9) {
        let is_done = matches!(resolution, Resolution::Done(_));
        let token = subject.take(subject.a(), &key, &request().with_take_over(TakeOver::Always)).await.token;
        let fence = subject.a().fence(&key, &token).await.expect("fence").expect("ours");
        assert!(fence > last, "{fence} after {last}");
        last = fence;
        suspended(suspend(subject.a(), &key, &token, Why::Abandoned).await);
        let before = seen(subject, &key).await;
        assert_eq!(resolve(subject.b(), &key, &saying(&before, resolution)).await, Resolved::Applied);
        if is_done {
            assert!(subject.a().forget(&key).await.expect("forget"));
        }
    }
}

pub(super) async fn a_resolution_ends_the_journal_or_keeps_it(subject: &Subject) {
    let step = Step::new("mail".to_owned(), Ok(Bytes::from_static(b"\"sent\"")));
    for (number, resolution) in resolutions().into_iter().enumerate() {
        for stage in [Stage::Lapsed, Stage::Failed, Stage::Abandoned, Stage::DoneExhausted] {
            let key = subject.key(format_args!("{number}-{stage:?}"));
            let lease = subject.short_lease();
            let first = ClaimRequest { lease: LONG, ..request() };
            let token = subject.take(subject.a(), &key, &first).await.token;
            let recorded = subject.a().append(&key, &token, &step, lease, LONG).await.expect("append");
            assert_eq!(recorded, Appended::Applied);
            match stage {
                Stage::Failed => suspended(suspend(subject.a(), &key, &token, Why::Failed).await),
                Stage::Abandoned => suspended(suspend(subject.a(), &key, &token, Why::Abandoned).await),
                // The journal of a run that is exhausted stays for this.
                Stage::DoneExhausted => {
                    applied(subject.a().complete(&key, &token, &Outcome::Exhausted, LONG).await);
                }
                _ => subject.advance(lease).await,
            }
            let before = seen(subject, &key).await;
            assert_eq!(resolve(subject.b(), &key, &saying(&before, resolution.clone())).await, Resolved::Applied);
            if matches!(resolution, Resolution::Done(_)) {
                assert!(subject.a().forget(&key).await.expect("forget"));
            }
            let next = subject.take(subject.b(), &key, &request()).await;
            let steps = subject.b().steps(&key, &next.token).await.expect("steps").expect("ours");
            let kept = if resolution == Resolution::Failed { vec![step.clone()] } else { Vec::new() };
            assert_eq!((next.past.has_steps, steps), (!kept.is_empty(), kept), "{resolution:?} {stage:?}");
        }
    }
}

pub(super) async fn only_what_was_seen_is_resolved(subject: &Subject) {
    for (number, resolution) in resolutions().into_iter().enumerate() {
        for stage in OPEN {
            let key = |what: &str| subject.key(format_args!("{number}-{stage:?}-{what}"));

            // Another run has begun, and has ended in the same way.
            let run = key("run");
            subject.bring(&run, stage).await;
            let before = seen(subject, &run).await;
            let second = subject.take(subject.b(), &run, &request()).await.token;
            changed(subject, &run, &saying(&before, resolution.clone())).await;
            suspended(suspend(subject.a(), &run, &second, Why::Abandoned).await);
            changed(subject, &run, &saying(&before, resolution.clone())).await;

            // The late owner has ended its run.
            if stage == Stage::Lapsed {
                let key = key("late");
                let owner = subject.bring(&key, stage).await;
                let before = seen(subject, &key).await;
                applied(subject.a().complete(&key, &owner, &ok(b"late"), LONG).await);
                changed(subject, &key, &saying(&before, resolution.clone())).await;
            }

            // Another operator was faster.
            let operators = key("operator");
            subject.bring(&operators, stage).await;
            let before = seen(subject, &operators).await;
            let first = saying(&before, Resolution::Done(ok(b"first")));
            assert_eq!(resolve(subject.b(), &operators, &first).await, Resolved::Applied);
            changed(subject, &operators, &saying(&before, resolution.clone())).await;

            // The key has another life.
            let anew = key("life");
            subject.bring(&anew, stage).await;
            let before = seen(subject, &anew).await;
            assert!(subject.a().forget(&anew).await.expect("forget"));
            let vacant = match resolution {
                Resolution::Vacant => Resolved::Applied,
                _ => Resolved::Changed,
            };
            assert_eq!(resolve(subject.b(), &anew, &saying(&before, resolution.clone())).await, vacant);
            assert_eq!(subject.record(&anew).await, None);
            subject.bring(&anew, stage).await;
            changed(subject, &anew, &saying(&before, resolution.clone())).await;
        }
    }
}

async fn changed(subject: &Subject, key: &RecordKey, saying: &ResolveRequest) {
    let before = subject.record(key).await;
    for even_if_alive in [false, true] {
        let saying = saying.clone().even_if_alive(even_if_alive);
        assert_eq!(resolve(subject.b(), key, &saying).await, Resolved::Changed, "{before:?}, {saying:?}");
    }
    subject.unchanged(key, before.as_ref(), "a resolution of what is not there").await;
}

pub(super) async fn a_run_that_is_alive_is_not_resolved(subject: &Subject) {
    for (number, resolution) in resolutions().into_iter().enumerate() {
        let key = subject.key(number);
        let owner = subject.run(&key).await;
        let before = seen(subject, &key).await;
        let saying = saying(&before, resolution.clone());
        match resolve(subject.b(), &key, &saying).await {
            Resolved::Running { lease_left } => assert!(!lease_left.is_zero() && lease_left <= LONG),
            other => panic!("{resolution:?}: expected Running, got {other:?}"),
        }
        subject.unchanged(&key, Some(&before), "a resolution of a run that is alive").await;
        applied(subject.a().renew(&key, &owner, LONG, LONG).await);

        assert_eq!(resolve(subject.b(), &key, &saying.even_if_alive(true)).await, Resolved::Applied);
        lost(subject.a().renew(&key, &owner, LONG, LONG).await);
        lost(subject.a().complete(&key, &owner, &ok(b"late"), LONG).await);
        assert_eq!(subject.a().fence(&key, &owner).await.expect("fence"), None, "{resolution:?}");
        let answer = claim(subject.a(), &key, &request().with_take_over(TakeOver::Never)).await;
        match (&resolution, &answer) {
            (Resolution::Done(_), ClaimOutcome::Done(_)) | (_, ClaimOutcome::Claimed { attempt: 1, .. }) => {}
            _ => panic!("{resolution:?}: {answer:?}"),
        }
    }
}

pub(super) async fn a_repeated_resolution_changes_nothing(subject: &Subject) {
    for (number, resolution) in resolutions().into_iter().enumerate() {
        for stage in OPEN {
            let key = subject.key(format_args!("{number}-{stage:?}"));
            subject.bring(&key, stage).await;
            let saying = saying(&seen(subject, &key).await, resolution.clone());
            assert_eq!(resolve(subject.b(), &key, &saying).await, Resolved::Applied);
            subject.advance(subject.tick()).await;
            let after = subject.record(&key).await;
            assert_eq!(after.is_none(), resolution == Resolution::Vacant, "{stage:?}");
            for store in subject.both() {
                assert_eq!(resolve(store, &key, &saying).await, Resolved::Applied, "{resolution:?} {stage:?}");
            }
            subject.unchanged(&key, after.as_ref(), "a repeated resolution").await;
        }
    }
}

pub(super) async fn a_resolved_record_is_kept_for_its_time(subject: &Subject) {
    for resolution in [Resolution::Done(ok(b"1")), Resolution::Failed] {
        let key = subject.key(resolution.as_str());
        let token = subject.take(subject.a(), &key, &ClaimRequest { ttl: HOLD, ..request() }).await.token;
        suspended(subject.a().suspend(&key, &token, Why::Abandoned, Duration::ZERO, HOLD).await);
        let keep = subject.short_ttl();
        let mut saying = saying(&seen(subject, &key).await, resolution);
        saying.keep = keep;
        assert_eq!(resolve(subject.b(), &key, &saying).await, Resolved::Applied);
        if subject.is_exact() {
            subject.advance(subject.tick() * 3).await;
            assert!(subject.record(&key).await.is_some());
            subject.advance(subject.tick()).await;
        } else {
            subject.advance(keep).await;
        }
        assert_eq!(subject.record(&key).await, None);
        assert_eq!(subject.take(subject.a(), &key, &request()).await.attempt, 1);
    }
}

pub(super) async fn one_of_many_operators(subject: &Subject) {
    const OPERATORS: usize = 16;
    for round in 0..5 {
        let key = subject.key(round);
        subject.bring(&key, Stage::Abandoned).await;
        let before = seen(subject, &key).await;
        let start = Arc::new(Barrier::new(OPERATORS));
        let mut tasks = JoinSet::new();
        for number in 0..OPERATORS {
            let word = Outcome::Ok(Bytes::from(number.to_string()));
            let saying = saying(&before, Resolution::Done(word.clone()));
            let (start, store, key) = (Arc::clone(&start), subject.shared(number), key.clone());
            tasks.spawn(async move {
                start.wait().await;
                (resolve(&*store, &key, &saying).await, word)
            });
        }
        let answers = tasks.join_all().await;
        let won: Vec<_> = answers.iter().filter(|(answer, _)| *answer == Resolved::Applied).collect();
        assert!(won.len() == 1, "{} of {OPERATORS} operators resolved a record", won.len());
        assert!(answers.iter().all(|(answer, _)| matches!(answer, Resolved::Applied | Resolved::Changed)));
        assert_eq!(subject.state(&key).await, Some(State::Done(won[0].1.clone())));
    }
}
