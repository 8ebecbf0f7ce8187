//! Every state and transition, the edges of a lease, and what is on the server afterwards.

use std::time::Duration;

use idempotent_runtime::{
    Store,
    store::{ClaimOutcome, Nonce, NotKept, Outcome, RecordKey, State, Suspension, TakeOver, Token, Transition, Why},
};

use crate::{
    SERVER,
    redis_server::RedisServer,
    support::{
        Fixture, LEASE, PAUSE, TTL, abandon, bytes_of, claim, claim_name, connect, granted, keep, key, lapse, left_of,
        other_fingerprint, outcome, raw, request, request_for, request_of, suspend, transition_name,
    },
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Situation {
    Vacant,
    Running,
    Lapsed,
    Failed,
    Abandoned,
    Paused,
    Done,
}

use Situation::{Abandoned, Done, Failed, Lapsed, Paused, Running, Vacant};

impl Fixture {
    /// A key in this situation, and the token of whoever brought it there.
    async fn key_in(&self, situation: Situation, name: &str) -> (RecordKey, Token) {
        let key = key(name);
        let token = if situation == Vacant { Token::new(Nonce::random()) } else { claim(&self.ours, &key).await };
        match situation {
            Vacant | Running => {}
            Lapsed => lapse(&self.server, &key).await,
            Failed => {
                assert_eq!(suspend(&self.ours, &key, &token, Why::Failed).await.unwrap(), Transition::Applied);
            }
            Paused => {
                let answer = self.ours.suspend(&key, &token, Why::Abandoned, PAUSE, TTL).await.unwrap();
                assert_eq!(answer, Suspension::Applied);
            }
            Abandoned => assert_eq!(abandon(&self.ours, &key, &token).await.unwrap(), Transition::Applied),
            Done => assert_eq!(self.ours.complete(&key, &token, &outcome(), TTL).await.unwrap(), Transition::Applied),
        }
        (key, token)
    }
}

#[tokio::test]
async fn every_claim_in_every_state() {
    let fixture = Fixture::start().await;
    // Situation; claim by another with takeover, without; by another request; the same claim again.
    let table = [
        (Vacant, "claimed 1", "claimed 1", "claimed 1", "claimed 1"),
        (Running, "in flight", "in flight", "mismatch", "claimed 1"),
        (Lapsed, "claimed 2", "abandoned 1", "mismatch", "claimed 1"),
        (Failed, "claimed 2", "claimed 2", "mismatch", "suspended 1"),
        (Abandoned, "claimed 2", "abandoned 1", "mismatch", "suspended 1"),
        (Paused, "suspended 1", "abandoned 1", "mismatch", "suspended 1"),
        (Done, "done 1", "done 1", "mismatch", "done 1"),
    ];
    for (situation, with_takeover, without, by_other_request, again) in table {
        let requests = |token: Token| {
            [
                (with_takeover, request()),
                (without, request().with_take_over(TakeOver::Never)),
                (by_other_request, other_fingerprint()),
                (again, request_of(&token)),
            ]
        };
        for case in 0..4 {
            let (key, token) = fixture.key_in(situation, &format!("{situation:?}-{case}")).await;
            let before = bytes_of(&fixture.server, &key).await;
            let (expected, request) = requests(token)[case].clone();
            let answer = fixture.theirs.claim(&key, &request).await;
            assert_eq!(claim_name(&answer), expected, "{situation:?}, case {case}");
            let changed = bytes_of(&fixture.server, &key).await != before;
            let granted_anew = matches!(&answer, Ok(ClaimOutcome::Claimed { .. })) && (situation, case) != (Running, 3);
            assert_eq!(changed, granted_anew && (situation, case) != (Lapsed, 3), "{situation:?}, case {case}");
        }
    }
}

#[tokio::test]
async fn every_transition_in_every_state() {
    let fixture = Fixture::start().await;
    // Situation; by its owner: renew, complete, release, abandon, and whether there is a fence. Nobody else can do any.
    let table = [
        (Vacant, ["lost", "lost", "applied", "lost"], false),
        (Running, ["applied", "applied", "applied", "applied"], true),
        (Lapsed, ["applied", "applied", "applied", "applied"], true),
        (Failed, ["lost", "lost", "applied", "applied"], false),
        (Abandoned, ["lost", "lost", "lost", "applied"], false),
        (Paused, ["lost", "lost", "lost", "applied"], false),
        (Done, ["lost", "applied", "lost", "lost"], false),
    ];
    for (situation, by_owner, fenced) in table {
        for (case, expected) in by_owner.into_iter().enumerate() {
            let (key, token) = fixture.key_in(situation, &format!("{situation:?}-{case}")).await;
            let stranger = Token::new(Nonce::random());
            let before = bytes_of(&fixture.server, &key).await;
            let by_stranger = if (situation, case) == (Vacant, 2) { "applied" } else { "lost" };
            assert_eq!(transition(&fixture, case, &key, &stranger).await, by_stranger, "{situation:?}, case {case}");
            assert_eq!(fixture.theirs.fence(&key, &stranger).await.unwrap(), None);
            assert_eq!(
                bytes_of(&fixture.server, &key).await,
                before,
                "{situation:?}, case {case}: a stranger changed it"
            );
            assert_eq!(fixture.theirs.fence(&key, &token).await.unwrap().is_some(), fenced);
            let before = bytes_of(&fixture.server, &key).await;
            assert_eq!(transition(&fixture, case, &key, &token).await, expected, "{situation:?}, case {case}");
            let unchanged = bytes_of(&fixture.server, &key).await == before;
            assert_eq!(unchanged, expected == "lost" || !fenced || case == 0, "{situation:?}, case {case}");
            // A repeat of what was applied is applied.
            assert_eq!(transition(&fixture, case, &key, &token).await, expected, "{situation:?}, case {case}, again");
        }
    }
}

async fn transition(fixture: &Fixture, case: usize, key: &RecordKey, token: &Token) -> &'static str {
    let store = &fixture.theirs;
    transition_name(&match case {
        0 => store.renew(key, token, LEASE, TTL).await,
        1 => store.complete(key, token, &outcome(), TTL).await,
        2 => store.release(key, token, TTL).await,
        _ => abandon(store, key, token).await,
    })
}

#[tokio::test]
async fn a_lease_ends_exactly_at_its_end() {
    let Fixture { server, ours, theirs } = Fixture::start().await;
    let key = key("edge");
    let refusing = request().with_take_over(TakeOver::Never);
    claim(&ours, &key).await;
    // Twenty seconds before the end, on the server's clock.
    keep(&server, &key, TTL + Duration::from_secs(20)).await;
    match theirs.claim(&key, &refusing).await.unwrap() {
        ClaimOutcome::InFlight { retry_after, .. } => assert!(retry_after <= Duration::from_secs(20)),
        other => panic!("not in flight: {other:?}"),
    }
    // At the end: most of these claims come in the same millisecond.
    for _ in 0..200 {
        keep(&server, &key, TTL).await;
        assert_eq!(claim_name(&theirs.claim(&key, &refusing).await), "abandoned 1");
    }
    // After the end.
    keep(&server, &key, TTL / 2).await;
    assert_eq!(claim_name(&theirs.claim(&key, &refusing).await), "abandoned 1");
    assert!(matches!(theirs.inspect(&key).await.unwrap().unwrap().state, State::Lapsed));
}

#[tokio::test]
async fn records_are_kept_as_long_as_asked() {
    let Fixture { server, ours, theirs } = Fixture::start().await;
    let tolerance = Duration::from_secs(20);
    let about = |left: Duration, expected: Duration| left <= expected && left + tolerance > expected;
    let key = key("kept");
    let token = claim(&ours, &key).await;
    assert!(about(left_of(&server, &key).await, LEASE + TTL));

    let (lease, ttl) = (Duration::from_secs(100), Duration::from_secs(1000));
    let _ = ours.renew(&key, &token, lease, ttl).await.unwrap();
    assert!(about(left_of(&server, &key).await, lease + ttl));
    match theirs.claim(&key, &request()).await.unwrap() {
        ClaimOutcome::InFlight { retry_after, .. } => assert!(about(retry_after, lease), "the new lease counts"),
        other => panic!("not in flight: {other:?}"),
    }

    let _ = ours.complete(&key, &token, &outcome(), Duration::from_secs(50)).await.unwrap();
    assert!(about(left_of(&server, &key).await, Duration::from_secs(50)));

    let key = self::key("kept-abandoned");
    let token = claim(&ours, &key).await;
    let _ = ours.suspend(&key, &token, Why::Abandoned, PAUSE * 5, Duration::from_secs(40)).await.unwrap();
    assert!(about(left_of(&server, &key).await, PAUSE * 5 + Duration::from_secs(40)));

    // The shortest lease and time to live are a millisecond each, never none.
    let key = self::key("short");
    let short = request_for(Duration::ZERO);
    granted(ours.claim(&key, &short).await);
    redis_gone(&server, &key).await;
    assert_eq!(claim_name(&theirs.claim(&key, &other_fingerprint()).await), "claimed 1", "an expired key is vacant");
    // And the longest do not overflow.
    let key = self::key("long");
    let long = request_for(Duration::MAX);
    let token = granted(ours.claim(&key, &long).await);
    assert_eq!(claim_name(&theirs.claim(&key, &other_fingerprint()).await), "mismatch");
    assert_eq!(ours.complete(&key, &token, &outcome(), Duration::MAX).await.unwrap(), Transition::Applied);
}

async fn redis_gone(server: &RedisServer, key: &RecordKey) {
    idempotent_tests::wait::wait_for("the record to expire", async || bytes_of(server, key).await.is_none()).await;
}

#[tokio::test]
async fn fences_rise_whatever_happens_to_the_key() {
    let Fixture { server, ours, theirs } = Fixture::start().await;
    let key = key("fence");
    let mut last = 0;
    let mut rises = |fence: u64| {
        assert!(fence > last, "{fence} after {last}");
        last = fence;
    };
    let token = claim(&ours, &key).await;
    assert_eq!(token.fence, None);
    let first = ours.fence(&key, &token).await.unwrap().expect("ours");
    rises(first);
    assert_eq!(theirs.fence(&key, &token).await.unwrap(), Some(first), "made once");

    lapse(&server, &key).await;
    let successor = granted(theirs.claim(&key, &request()).await);
    rises(successor.fence.expect("a takeover makes its fence"));
    assert_eq!(theirs.fence(&key, &successor).await.unwrap(), successor.fence);
    assert_eq!(ours.fence(&key, &token).await.unwrap(), None, "not ours any more");

    let _ = abandon(&theirs, &key, &successor).await.unwrap();
    let successor = granted(ours.claim(&key, &request()).await);
    rises(successor.fence.expect("a fence"));

    let _ = ours.release(&key, &successor, TTL).await.unwrap();
    let token = claim(&theirs, &key).await;
    rises(theirs.fence(&key, &token).await.unwrap().expect("ours"));

    assert!(ours.forget(&key).await.unwrap());
    let token = claim(&ours, &key).await;
    rises(ours.fence(&key, &token).await.unwrap().expect("ours"));
}

#[tokio::test]
async fn a_fence_rises_when_the_server_clock_went_back() {
    let Fixture { server, ours, theirs } = Fixture::start().await;
    let key = key("fence");
    let token = claim(&ours, &key).await;
    // As if made by a server whose clock was a century ahead.
    let ahead: u64 = 5_000_000_000_000_000;
    let mut client = server.client().await;
    redis::cmd("SETRANGE")
        .arg(raw(&key))
        .arg(22)
        .arg(ahead.to_be_bytes().as_slice())
        .exec_async(&mut client)
        .await
        .unwrap();
    assert_eq!(ours.fence(&key, &token).await.unwrap(), Some(ahead));
    lapse(&server, &key).await;
    let successor = granted(theirs.claim(&key, &request()).await);
    assert_eq!(successor.fence, Some(ahead + 1));
}

/// The record can change between the two requests of a contended claim: its script decides on what is there by then.
#[tokio::test]
async fn a_contended_claim_decides_on_what_is_there_by_then() {
    const CONTEND: &str = include_str!("../../idempotent-runtime/src/store/redis/claim_held.lua");
    let fixture = Fixture::start().await;
    let mut client = fixture.server.client().await;
    // A fresh record by another claim of the same request.
    let template = key("template");
    claim(&fixture.ours, &template).await;
    let fresh = bytes_of(&fixture.server, &template).await.expect("a record");
    let mut contend = async |key: &RecordKey, fresh: &[u8]| -> redis::RedisResult<Vec<u8>> {
        let mut script = redis::cmd("EVAL");
        script.arg(CONTEND).arg(1).arg(raw(key)).arg(fresh).arg(630_000).arg(1_000_000);
        let (record, now_ms): (Vec<u8>, u64) = script.query_async(&mut client).await?;
        assert!(now_ms > 1_700_000_000_000, "the server's time in ms");
        Ok(record)
    };

    let vacant = key("gone");
    assert_eq!(contend(&vacant, &fresh).await, Ok(fresh.clone()), "claims what has gone");
    assert_eq!(bytes_of(&fixture.server, &vacant).await, Some(fresh.clone()));
    assert_eq!(contend(&vacant, &fresh).await, Ok(fresh.clone()), "recognises its own");
    lapse(&fixture.server, &vacant).await;
    assert_eq!(contend(&vacant, &fresh).await, Ok(fresh.clone()), "recognises its own");

    for situation in [Running, Lapsed, Failed, Abandoned, Paused, Done] {
        let (key, _) = fixture.key_in(situation, &format!("{situation:?}")).await;
        let mut other_request = fresh.clone();
        other_request[42] ^= 1;
        let before = bytes_of(&fixture.server, &key).await.expect("a record");
        let answer = contend(&key, &other_request).await;
        assert_eq!(answer, Ok(before.clone()), "{situation:?}: a mismatch is shown");
        assert_eq!(bytes_of(&fixture.server, &key).await, Some(before), "{situation:?}: and changes nothing");
    }

    let (lapsed, _) = fixture.key_in(Lapsed, "full").await;
    fixture.server.command::<()>(&["CONFIG", "SET", "maxmemory", "1"]).await;
    for key in [&lapsed, &key("full-and-vacant")] {
        let error = contend(key, &fresh).await.expect_err("nothing is granted when the server is full");
        assert_eq!(error.code(), Some("OOM"));
    }
}

#[tokio::test]
async fn attempts_count_takeovers() {
    let Fixture { server, ours, theirs } = Fixture::start().await;
    let key = key("attempts");
    claim(&ours, &key).await;
    for attempt in 2..6 {
        lapse(&server, &key).await;
        assert_eq!(claim_name(&theirs.claim(&key, &request()).await), format!("claimed {attempt}"));
    }
}

#[tokio::test]
async fn every_outcome_is_replayed_as_it_was_stored() {
    let Fixture { server: _server, ours, theirs } = Fixture::start().await;
    let outcomes = [
        Outcome::Ok("0".into()),
        Outcome::Ok(bytes::Bytes::new()),
        Outcome::Ok((0..=255).collect::<Vec<u8>>().into()),
        Outcome::Ok(vec![b'x'; 1 << 20].into()),
        Outcome::Err("{\"declined\":null}".into()),
        Outcome::NotKept(NotKept::TooLarge),
        Outcome::NotKept(NotKept::NotSerializable),
        Outcome::Exhausted,
        Outcome::Dead,
    ];
    for (index, outcome) in outcomes.into_iter().enumerate() {
        let key = key(format!("outcome-{index}"));
        let token = claim(&ours, &key).await;
        assert_eq!(ours.complete(&key, &token, &outcome, TTL).await.unwrap(), Transition::Applied);
        match theirs.claim(&key, &request()).await.unwrap() {
            ClaimOutcome::Done(finished) => assert_eq!(finished.outcome, outcome),
            other => panic!("not done: {other:?}"),
        }
        let record = theirs.inspect(&key).await.unwrap().expect("a record");
        assert_eq!(record.state, State::Done(outcome));
    }
}

#[tokio::test]
async fn a_late_owner_changes_nothing() {
    let Fixture { server, ours, theirs } = Fixture::start().await;
    let key = key("late");
    let late = claim(&ours, &key).await;
    lapse(&server, &key).await;
    let owner = granted(theirs.claim(&key, &request()).await);
    for round in ["running", "done"] {
        let before = bytes_of(&server, &key).await;
        assert_eq!(ours.renew(&key, &late, LEASE, TTL).await.unwrap(), Transition::Lost, "{round}");
        assert_eq!(ours.complete(&key, &late, &outcome(), TTL).await.unwrap(), Transition::Lost, "{round}");
        assert_eq!(ours.release(&key, &late, TTL).await.unwrap(), Transition::Lost, "{round}");
        assert_eq!(abandon(&ours, &key, &late).await.unwrap(), Transition::Lost, "{round}");
        assert_eq!(bytes_of(&server, &key).await, before, "{round}");
        let _ = theirs.complete(&key, &owner, &outcome(), TTL).await.unwrap();
    }
}

#[tokio::test]
async fn of_many_claims_one_is_granted() {
    let server = SERVER.start().await;
    let stores = [connect(&server.url()).await, connect(&server.url()).await].map(std::sync::Arc::new);
    for round in 0..20 {
        let key = key(format!("race-{round}"));
        // Half of the rounds are for a vacant key, half for a lapsed one.
        if round % 2 == 1 {
            claim(&stores[0], &key).await;
            lapse(&server, &key).await;
        }
        let mut claims = tokio::task::JoinSet::new();
        for index in 0..64 {
            let (store, key) = (std::sync::Arc::clone(&stores[index % 2]), key.clone());
            claims.spawn(async move { claim_name(&store.claim(&key, &request()).await) });
        }
        let answers = claims.join_all().await;
        let granted = answers.iter().filter(|answer| answer.starts_with("claimed")).count();
        let waiting = answers.iter().filter(|answer| *answer == "in flight").count();
        assert_eq!((granted, waiting), (1, 63), "round {round}");
    }
}

#[tokio::test]
async fn records_are_inspected_listed_and_forgotten() {
    let Fixture { server, ours, theirs } = Fixture::start().await;
    for index in 0..50 {
        claim(&ours, &key(format!("listed-{index}"))).await;
    }
    let other = "tests.operation2|listed".parse::<RecordKey>().unwrap();
    claim(&ours, &other).await;
    server.command::<()>(&["SET", "idempotent:tests.operation|foreign", "x"]).await;
    server.command::<()>(&["SET", "idempotent:not-a-record-key", "x"]).await;
    server.command::<()>(&["SET", "somebody-else", "x"]).await;

    for (operation, count) in [(Some("tests.operation"), 50), (Some("tests.operation2"), 1), (None, 51), (Some("*"), 0)]
    {
        let mut keys = std::collections::HashSet::new();
        let mut after = None;
        loop {
            let page = theirs.list(operation, after.as_ref(), 10).await.unwrap();
            keys.extend(page.records.into_iter().map(|record| {
                assert!(matches!(record.state, State::Running { lease_left, .. } if lease_left <= LEASE));
                record.key
            }));
            match page.next {
                Some(next) => after = Some(next),
                None => break,
            }
        }
        assert_eq!(keys.len(), count, "{operation:?}");
    }

    assert!(theirs.forget(&other).await.unwrap());
    assert!(!theirs.forget(&other).await.unwrap());
    assert_eq!(theirs.inspect(&other).await.unwrap(), None);
    assert_eq!(theirs.purge_expired(10).await.unwrap(), 0);
}
