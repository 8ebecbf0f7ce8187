//! The record of a key that was run more than once: its bytes, what it tells, and records of releases before.

use std::time::Duration;

use idempotent_runtime::{
    Store,
    store::{
        Before, ClaimOutcome, ClaimRequest, Past, RecordKey, State, StoreResult, Suspension, TakeOver, Transition, Why,
    },
};

use crate::{
    redis_server::RedisServer,
    support::{
        ARGUMENTS, Fixture, LEASE, PAUSE, TTL, abandon, bytes_of, claim, claim_name, granted, keep, key, lapse,
        outcome, raw, recording, request, request_for, request_of, suspend, transition_name,
    },
};

/// The number and the past that a granted claim tells.
fn told(answer: StoreResult<ClaimOutcome>) -> (u32, Past) {
    match answer.unwrap() {
        ClaimOutcome::Claimed { attempt, past, .. } => (attempt, past),
        other => panic!("not granted: {other:?}"),
    }
}

fn is_abandoned_since(past: &Past, at_least: Duration) -> bool {
    matches!(past.before, Before::Abandoned { since, .. } if since >= at_least && since < at_least + LEASE)
}

async fn write(server: &RedisServer, key: &RecordKey, record: &[u8], left: Duration) {
    let mut set = redis::cmd("SET");
    set.arg(raw(key)).arg(record).arg("PX").arg(u64::try_from(left.as_millis()).unwrap());
    set.exec_async(&mut server.client().await).await.unwrap();
}

#[tokio::test]
async fn a_first_run_is_written_as_ever() {
    let Fixture { server, ours, .. } = Fixture::start().await;
    let key = key("first");
    let token = claim(&ours, &key).await;
    let running = bytes_of(&server, &key).await.expect("a record");
    assert_eq!((running.len(), &running[..6]), (74, &b"IDM1R0"[..]));
    let _ = ours.complete(&key, &token, &outcome(), TTL).await.unwrap();
    let done = bytes_of(&server, &key).await.expect("a record");
    assert_eq!((&done[..6], &done[6..74]), (&b"IDM1O0"[..], &running[6..]));
}

#[tokio::test]
async fn a_life_is_written_from_its_first_suspension_on() {
    let Fixture { server, ours, theirs } = Fixture::start().await;
    for (request, flags) in [(request as fn() -> ClaimRequest, b'0'), (recording, b'2')] {
        let key = key(format!("life-{flags}"));
        let token = granted(ours.claim(&key, &request()).await);
        let _ = suspend(&ours, &key, &token, Why::Failed).await.unwrap();
        let token = granted(theirs.claim(&key, &request()).await);
        let record: Vec<u8> = server.command(&["GET", &raw(&key)]).await;
        assert_eq!(&record[..6], [b'I', b'D', b'M', b'2', b'R', flags]);
        let _ = theirs.complete(&key, &token, &outcome(), TTL).await.unwrap();
        let record = theirs.inspect(&key).await.unwrap().expect("a record");
        assert_eq!((record.state, record.attempt, record.failed), (State::Done(outcome()), 2, 1));
        assert_eq!(record.arguments.as_deref(), (flags == b'2').then_some(ARGUMENTS.as_bytes()));
    }
}

/// The records of release 0.1: they are taken over, suspended, given steps and completed.
#[tokio::test]
async fn old_records_go_on() {
    let Fixture { server, ours, theirs } = Fixture::start().await;
    for state in [b'R', b'A'] {
        for ending in ["complete", "release", "abandon", "give back"] {
            let key = key(format!("old-{state}-{ending}").replace(' ', "-"));
            let first = claim(&ours, &key).await;
            let mut old = bytes_of(&server, &key).await.expect("a record");
            old[4] = state;
            old[33] = 3;
            // A running one is past its lease by twenty seconds.
            write(&server, &key, &old, TTL - PAUSE).await;
            let record = theirs.inspect(&key).await.unwrap().expect("a record");
            assert_eq!((record.attempt, record.failed, record.generation), (3, 0, first.nonce.into()));
            assert_eq!(record.state, if state == b'R' { State::Lapsed } else { State::Abandoned });
            let refusing = request().with_take_over(TakeOver::Never);
            assert_eq!(claim_name(&theirs.claim(&key, &refusing).await), "abandoned 3");

            let successor = request();
            let token = granted(theirs.claim(&key, &successor).await);
            let (attempt, past) = told(ours.claim(&key, &successor).await);
            assert_eq!((attempt, past.generation, past.failed, past.has_steps), (4, first.nonce.into(), 0, false));
            assert!(is_abandoned_since(&past, if state == b'R' { PAUSE } else { Duration::ZERO }), "{past:?}");
            let answer = match ending {
                "complete" => theirs.complete(&key, &token, &outcome(), TTL).await,
                "release" => theirs.release(&key, &token, TTL).await,
                "abandon" => abandon(&theirs, &key, &token).await,
                _ => suspend(&theirs, &key, &token, Why::Unstarted).await,
            };
            assert_eq!(transition_name(&answer), "applied");
            let expected = match ending {
                "complete" => "done 4",
                "release" => "claimed 1",
                "abandon" => "claimed 5",
                _ => "claimed 4",
            };
            assert_eq!(claim_name(&ours.claim(&key, &request()).await), expected, "{ending}");
        }
    }
}

/// The owner of an old running record is a process that was replaced while it ran.
#[tokio::test]
async fn old_running_records_are_suspended_with_their_arguments() {
    let Fixture { server: _server, ours, theirs } = Fixture::start().await;
    for why in [Why::Abandoned, Why::Failed] {
        let key = key(format!("{why:?}"));
        let token = granted(ours.claim(&key, &recording()).await);
        assert_eq!(suspend(&ours, &key, &token, why).await.unwrap(), Transition::Applied);
        let record = theirs.inspect(&key).await.unwrap().expect("a record");
        assert_eq!((record.arguments.as_deref(), record.generation), (Some(ARGUMENTS.as_bytes()), token.nonce.into()));
    }
}

#[tokio::test]
async fn a_takeover_is_told_the_same_when_it_is_repeated() {
    let Fixture { server, ours, theirs } = Fixture::start().await;
    let key = key("told");
    let first = claim(&ours, &key).await;
    keep(&server, &key, TTL - PAUSE).await;
    let successor = request();
    for store in [&theirs, &ours, &theirs] {
        let (attempt, past) = told(store.claim(&key, &successor).await);
        assert_eq!((attempt, past.generation), (2, first.nonce.into()));
        assert!(is_abandoned_since(&past, PAUSE), "{past:?}");
    }
    let failed = granted(ours.claim(&key, &successor).await);
    let _ = suspend(&ours, &key, &failed, Why::Failed).await.unwrap();
    let successor = request();
    for store in [&theirs, &ours] {
        let (attempt, past) = told(store.claim(&key, &successor).await);
        assert_eq!((attempt, past.before, past.failed), (3, Before::Failed, 1));
    }
}

/// An operator who shortens the life of a record, or removes its end, does not make it unreadable.
#[tokio::test]
async fn an_end_that_was_moved_is_read() {
    let Fixture { server, ours, theirs } = Fixture::start().await;
    let century = Duration::from_secs(100 * 365 * 24 * 60 * 60);
    let key = key("shortened");
    granted(ours.claim(&key, &request_for(century)).await);
    keep(&server, &key, LEASE).await;
    let (attempt, past) = told(theirs.claim(&key, &request()).await);
    assert!(attempt == 2 && matches!(past.before, Before::Abandoned { since, .. } if since > century / 4), "{past:?}");

    for (why, expected) in [(Why::Failed, "claimed 2"), (Why::Abandoned, "abandoned 1")] {
        let key = self::key(format!("endless-{why:?}"));
        let token = claim(&ours, &key).await;
        assert_eq!(ours.suspend(&key, &token, why, PAUSE, TTL).await.unwrap(), Suspension::Applied);
        server.command::<()>(&["PERSIST", &raw(&key)]).await;
        assert_eq!(claim_name(&theirs.claim(&key, &request()).await), expected);
        let always = request().with_take_over(TakeOver::Always);
        if why == Why::Abandoned {
            assert_eq!(claim_name(&theirs.claim(&key, &always).await), "claimed 2");
        }
    }
    let key = self::key("endless-running");
    claim(&ours, &key).await;
    server.command::<()>(&["PERSIST", &raw(&key)]).await;
    let always = request().with_take_over(TakeOver::Always);
    assert!(matches!(theirs.claim(&key, &always).await.unwrap(), ClaimOutcome::InFlight { .. }));
}

/// A run ends once: a completion and a suspension of one run, and a takeover of it, at the same moment.
#[tokio::test]
async fn of_two_ends_one_counts() {
    let Fixture { server, ours, theirs } = Fixture::start().await;
    for round in 0..200 {
        let key = key(format!("ends-{round}"));
        let token = claim(&ours, &key).await;
        let takes_over = round % 2 == 1;
        if takes_over {
            lapse(&server, &key).await;
        }
        let (result, successor) = (outcome(), request());
        let (complete, suspend, take_over) = tokio::join!(
            ours.complete(&key, &token, &result, TTL),
            theirs.suspend(&key, &token, Why::Abandoned, PAUSE, TTL),
            theirs.claim(&key, &successor),
        );
        let (complete, suspend) = (complete.unwrap(), suspend.unwrap());
        let is_granted = matches!(take_over.unwrap(), ClaimOutcome::Claimed { .. });
        let state = ours.inspect(&key).await.unwrap().expect("a record").state;
        match (complete, suspend) {
            (Transition::Applied, Suspension::Ended { how, by_us: true, .. }) => {
                assert_eq!((how, state), (outcome(), State::Done(outcome())));
                assert!(!is_granted);
            }
            (Transition::Lost, Suspension::Applied) => assert!(state == State::Abandoned && !is_granted, "{state:?}"),
            (Transition::Lost, Suspension::Taken) => assert!(takes_over && is_granted),
            other => panic!("round {round}: {other:?}"),
        }
        let again = claim_name(&ours.claim(&key, &request_of(&token)).await);
        let expected: &[&str] =
            if complete == Transition::Applied { &["done 1"] } else { &["suspended 1", "in flight"] };
        assert!(expected.contains(&again.as_str()), "round {round}: {again}");
    }
}
