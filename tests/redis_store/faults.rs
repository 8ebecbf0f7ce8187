//! Lost requests, lost replies and lost connections: the repeat by nonce finds out.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use idempotent_runtime::{
    Error, Idempotency, Store, StoreErrorKind,
    store::{Appended, Outcome, RecordKey, StoreResult, Suspension, Token, Transition, Why, redis::RedisStore},
};
use idempotent_tests::proxy::{Fault, Proxy};
use tokio::{task::JoinSet, time::Instant};

use crate::{
    SERVER,
    redis_server::RedisServer,
    support::{
        LEASE, TTL, abandon, bytes_of, claim, claim_name, connect, granted, key, lapse, outcome, request, request_of,
        step, suspend, transition_name,
    },
    wait_for,
};

/// A store behind a proxy, and one that is not.
struct Fixture {
    server: RedisServer,
    proxy: Proxy,
    ours: RedisStore,
    direct: RedisStore,
}

impl Fixture {
    async fn start() -> Self {
        let server = SERVER.start().await;
        let proxy = Proxy::start(server.address()).await;
        let ours = connect(&format!("redis://{}", proxy.address())).await;
        let direct = connect(&server.url()).await;
        let fixture = Self { server, proxy, ours, direct };
        fixture.teach_scripts().await;
        fixture
    }

    /// Lets the server learn all scripts, so that every transition is one request.
    async fn teach_scripts(&self) {
        let key = key("scripts");
        for ending in 0..3 {
            let token = claim(&self.direct, &key).await;
            let _ = self.direct.renew(&key, &token, LEASE, TTL).await.unwrap();
            let _ = self.direct.fence(&key, &token).await.unwrap();
            let _ = self.direct.claim(&key, &request()).await.unwrap();
            let _ = self.direct.steps(&key, &token).await.unwrap();
            let _ = self.direct.append(&key, &token, &step("a", "1"), LEASE, TTL).await.unwrap();
            let _ = match ending {
                0 => self.direct.complete(&key, &token, &outcome(), TTL).await.unwrap(),
                1 => self.direct.release(&key, &token, TTL).await.unwrap(),
                _ => abandon(&self.direct, &key, &token).await.unwrap(),
            };
            self.direct.forget(&key).await.unwrap();
        }
    }

    /// Repeats a step until the connection is back: a store does not repeat by itself.
    async fn again<T>(&self, step: impl AsyncFn(&RedisStore) -> StoreResult<T>) -> T {
        let deadline = Instant::now() + Duration::from_secs(5);
        loop {
            match step(&self.ours).await {
                Ok(answer) => return answer,
                Err(error) => {
                    assert_eq!(error.kind(), StoreErrorKind::Unavailable);
                    assert!(Instant::now() < deadline, "not back in time: {error:?}");
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            }
        }
    }
}

const CUTS: [Fault; 3] = [Fault::CutBeforeRequest, Fault::CutAfterRequest, Fault::CutBeforeReply];

#[tokio::test]
async fn a_claim_cut_anywhere_is_recognised_when_repeated() {
    let fixture = Fixture::start().await;
    for fault in CUTS {
        for lapsed in [false, true] {
            let key = key(format!("claim-{fault:?}-{lapsed}"));
            if lapsed {
                claim(&fixture.direct, &key).await;
                lapse(&fixture.server, &key).await;
            }
            let request = request();
            fixture.proxy.set(fault);
            let answer = fixture.ours.claim(&key, &request).await;
            assert_eq!(claim_name(&answer), "Unavailable", "{fault:?}");
            assert_eq!(fixture.proxy.fault(), Fault::None, "the fault happened");
            if fault == Fault::CutBeforeReply && !lapsed {
                assert_eq!(claim_name(&fixture.direct.claim(&key, &self::request()).await), "in flight");
            }
            let answer = fixture.again(async |store| store.claim(&key, &request).await).await;
            let expected = if lapsed { "claimed 2" } else { "claimed 1" };
            assert_eq!(claim_name(&Ok(answer.clone())), expected, "{fault:?}");
            // It is a claim like any other.
            let token = granted(Ok(answer));
            assert_eq!(fixture.ours.complete(&key, &token, &outcome(), TTL).await.unwrap(), Transition::Applied);
        }
    }
}

/// The second request of a claim on a lapsed key is the one that takes over.
#[tokio::test]
async fn a_takeover_cut_anywhere_is_recognised_when_repeated() {
    let fixture = Fixture::start().await;
    for fault in CUTS {
        let key = key(format!("takeover-{fault:?}"));
        claim(&fixture.direct, &key).await;
        lapse(&fixture.server, &key).await;
        let before = bytes_of(&fixture.server, &key).await;
        let request = request();
        fixture.proxy.set_after(1, fault);
        assert_eq!(claim_name(&fixture.ours.claim(&key, &request).await), "Unavailable", "{fault:?}");
        assert_eq!(fixture.proxy.fault(), Fault::None, "the fault happened");
        let between = bytes_of(&fixture.server, &key).await;
        match fault {
            Fault::CutBeforeRequest => assert_eq!(between, before, "nothing arrived"),
            Fault::CutBeforeReply => assert_ne!(between, before, "it was applied"),
            _ => {}
        }
        let answer = fixture.again(async |store| store.claim(&key, &request).await).await;
        assert_eq!(claim_name(&Ok(answer.clone())), "claimed 2", "{fault:?}");
        let by_another_connection = fixture.direct.claim(&key, &request).await.unwrap();
        assert_eq!(granted(Ok(answer)), granted(Ok(by_another_connection)), "the same claim, the same fence");
    }
}

type Change = (&'static str, fn(&RedisStore, RecordKey, Token) -> BoxFuture<'_>);
type BoxFuture<'a> = std::pin::Pin<Box<dyn Future<Output = StoreResult<Transition>> + Send + 'a>>;

const CHANGES: [Change; 7] = [
    ("renew", |store, key, token| Box::pin(async move { store.renew(&key, &token, LEASE, TTL).await })),
    ("append", |store, key, token| Box::pin(async move { append(store, &key, &token).await })),
    ("complete", |store, key, token| Box::pin(async move { store.complete(&key, &token, &outcome(), TTL).await })),
    ("release", |store, key, token| Box::pin(async move { store.release(&key, &token, TTL).await })),
    ("abandon", |store, key, token| Box::pin(async move { abandon(store, &key, &token).await })),
    ("fail", |store, key, token| Box::pin(async move { suspend(store, &key, &token, Why::Failed).await })),
    ("give back", |store, key, token| Box::pin(async move { give_back(store, &key, &token).await })),
];

async fn append(store: &RedisStore, key: &RecordKey, token: &Token) -> StoreResult<Transition> {
    store.append(key, token, &step("charge", "1"), LEASE, TTL).await.map(|answer| match answer {
        Appended::Applied => Transition::Applied,
        _ => Transition::Lost,
    })
}

/// A repeat finds the key of a first run vacant.
async fn give_back(store: &RedisStore, key: &RecordKey, token: &Token) -> StoreResult<Transition> {
    store.suspend(key, token, Why::Unstarted, Duration::ZERO, TTL).await.map(|answer| match answer {
        Suspension::Applied | Suspension::Vacant => Transition::Applied,
        _ => Transition::Lost,
    })
}

/// Brings a key where a change is to be cut off.
type Start = (&'static str, fn(&Fixture, RecordKey) -> BoxToken<'_>);
type BoxToken<'a> = std::pin::Pin<Box<dyn Future<Output = Token> + Send + 'a>>;

const STARTS: [Start; 3] = [
    ("first run", |fixture, key| Box::pin(async move { claim(&fixture.direct, &key).await })),
    ("taken over", |fixture, key| Box::pin(async move { taken_over(fixture, &key).await })),
    ("with a step", |fixture, key| {
        Box::pin(async move {
            let token = taken_over(fixture, &key).await;
            let answer = fixture.direct.append(&key, &token, &step("reserve", "1"), LEASE, TTL).await;
            assert_eq!(answer.unwrap(), Appended::Applied);
            token
        })
    }),
];

async fn taken_over(fixture: &Fixture, key: &RecordKey) -> Token {
    let token = claim(&fixture.direct, key).await;
    assert_eq!(abandon(&fixture.direct, key, &token).await.unwrap(), Transition::Applied);
    claim(&fixture.direct, key).await
}

#[tokio::test]
async fn a_change_cut_anywhere_is_applied_once_when_repeated() {
    let fixture = Fixture::start().await;
    for fault in CUTS {
        for ((start, bring), (name, change)) in
            STARTS.iter().flat_map(|start| CHANGES.iter().map(move |it| (start, it)))
        {
            let case = format!("{name}-{fault:?}-{start}").replace(' ', "-");
            let key = key(&case);
            let token = bring(&fixture, key.clone()).await;
            let before = bytes_of(&fixture.server, &key).await;
            // A connection that was cut off is replaced by now.
            fixture.again(async |store| store.inspect(&key).await).await;
            fixture.proxy.set(fault);
            let answer = change(&fixture.ours, key.clone(), token).await;
            assert_eq!(transition_name(&answer), "unavailable", "{case}");
            assert_eq!(fixture.proxy.fault(), Fault::None, "the fault happened");
            let between = bytes_of(&fixture.server, &key).await;
            match fault {
                Fault::CutBeforeRequest => assert_eq!(between, before, "{case}: nothing arrived"),
                Fault::CutBeforeReply if *name != "renew" => assert_ne!(between, before, "{case}: it was applied"),
                _ => {}
            }
            let answer = fixture.again(async |store| change(store, key.clone(), token).await).await;
            assert_eq!(answer, Transition::Applied, "{case}");
            if fault == Fault::CutBeforeReply {
                assert_eq!(bytes_of(&fixture.server, &key).await, between, "{case}: the repeat changed nothing");
            }
        }
    }
}

#[tokio::test]
async fn a_fence_cut_anywhere_is_made_once() {
    let fixture = Fixture::start().await;
    for fault in CUTS {
        let key = key(format!("fence-{fault:?}"));
        let token = claim(&fixture.ours, &key).await;
        fixture.proxy.set(fault);
        fixture.ours.fence(&key, &token).await.expect_err("cut");
        let fence = fixture.again(async |store| store.fence(&key, &token).await).await.expect("ours");
        assert_eq!(fixture.direct.fence(&key, &token).await.unwrap(), Some(fence));
    }
}

/// The orphan of a release whose reply was lost: somebody else has the key by then.
#[tokio::test]
async fn a_repeated_release_does_not_touch_the_next_claim() {
    let fixture = Fixture::start().await;
    let key = key("release");
    let token = claim(&fixture.ours, &key).await;
    fixture.proxy.set(Fault::CutBeforeReply);
    fixture.ours.release(&key, &token, TTL).await.expect_err("cut");
    claim(&fixture.direct, &key).await;
    let answer = fixture.again(async |store| store.release(&key, &token, TTL).await).await;
    assert_eq!(answer, Transition::Lost);
    assert_eq!(claim_name(&fixture.ours.claim(&key, &request()).await), "in flight");
}

#[tokio::test]
async fn a_half_open_connection_is_given_up_and_replaced() {
    let fixture = Fixture::start().await;
    let key = key("half-open");
    let token = claim(&fixture.ours, &key).await;
    for fault in [Fault::LoseRequests, Fault::LoseReplies] {
        fixture.proxy.set(fault);
        let started = Instant::now();
        let answer = fixture.ours.renew(&key, &token, LEASE, TTL).await;
        assert_eq!(transition_name(&answer), "unavailable", "{fault:?}");
        assert!(started.elapsed() < Duration::from_secs(2), "the time-out is half a second");
        fixture.proxy.set(Fault::None);
        let healed = Instant::now();
        let answer = fixture.again(async |store| store.renew(&key, &token, LEASE, TTL).await).await;
        assert_eq!(answer, Transition::Applied);
        assert!(healed.elapsed() < Duration::from_secs(1), "used again within a second, not {:?}", healed.elapsed());
    }
}

#[tokio::test]
async fn a_slow_network_is_only_slow() {
    let fixture = Fixture::start().await;
    fixture.proxy.set(Fault::Delay(Duration::from_millis(50)));
    let key = key("slow");
    let token = claim(&fixture.ours, &key).await;
    assert_eq!(fixture.ours.complete(&key, &token, &outcome(), TTL).await.unwrap(), Transition::Applied);
}

#[tokio::test]
async fn an_idle_connection_that_was_closed_costs_no_error() {
    let fixture = Fixture::start().await;
    fixture.server.command::<()>(&["CLIENT", "KILL", "TYPE", "normal"]).await;
    let key = key("idle");
    // The client hears of it on its own; until then a call may meet the dead connection.
    wait_for("the client to hear of it", async || fixture.ours.inspect(&key).await.is_ok()).await;
    claim(&fixture.ours, &key).await;
}

#[tokio::test]
async fn a_killed_server_is_used_again_within_a_second() {
    let mut fixture = Fixture::start().await;
    fixture.server.kill();
    let down = Instant::now();
    while down.elapsed() < Duration::from_millis(500) {
        assert_eq!(claim_name(&fixture.direct.claim(&key("down"), &request()).await), "Unavailable");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    fixture.server.restart().await;
    let healed = Instant::now();
    while claim_name(&fixture.direct.claim(&key("up"), &request()).await) != "claimed 1" {
        assert!(healed.elapsed() < Duration::from_secs(1), "not used again within a second");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_paused_server_times_out_and_goes_on() {
    let fixture = Fixture::start().await;
    let key = key("paused");
    let token = claim(&fixture.direct, &key).await;
    fixture.server.pause();
    let (result, other, request) = (Outcome::Ok("1".into()), self::key("other"), request());
    let answers =
        tokio::join!(fixture.direct.complete(&key, &token, &result, TTL), fixture.ours.claim(&other, &request),);
    assert_eq!(transition_name(&answers.0), "unavailable");
    assert_eq!(claim_name(&answers.1), "Unavailable");
    fixture.server.resume();
    let again = request_of(&token);
    wait_for("the store to be back", async || fixture.direct.inspect(&key).await.is_ok()).await;
    // The completion may have been read after all; either way the repeat finds out.
    let answer = fixture.direct.complete(&key, &token, &result, TTL).await.unwrap();
    assert_eq!(answer, Transition::Applied);
    let answer = fixture.direct.claim(&key, &again).await.unwrap();
    assert!(matches!(answer, idempotent_runtime::store::ClaimOutcome::Done(_)));
}

/// Calls that their callers give up at any moment leave connection and record whole.
#[tokio::test]
async fn dropped_calls_leave_the_store_working() {
    let fixture = Fixture::start().await;
    for round in 0..200_u64 {
        let key = key(format!("dropped-{}", round % 10));
        let request = request();
        let claiming = fixture.ours.claim(&key, &request);
        let answer = tokio::time::timeout(Duration::from_micros(round * 3), claiming).await;
        // Given up or not, the same claim again knows.
        let answer = match answer {
            Ok(answer) => answer.unwrap(),
            Err(_) => fixture.ours.claim(&key, &request).await.unwrap(),
        };
        let token = granted(Ok(answer));
        let _ = tokio::time::timeout(Duration::from_micros(round), fixture.ours.release(&key, &token, TTL)).await;
        assert_eq!(fixture.ours.release(&key, &token, TTL).await.unwrap(), Transition::Applied);
    }
}

/// An administrator flushes the scripts, ends all connections and adds passwords, while callers work.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn administration_under_load_runs_nothing_twice() {
    const ROUNDS: usize = 20;
    let server = SERVER.start().await;
    server.command::<()>(&["ACL", "SETUSER", "app", "on", ">0", "~*", "&*", "+@all"]).await;
    let handle = Idempotency::new(connect(&format!("redis://app:0@{}", server.address())).await);
    let (rounds, runs) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(HashMap::new())));
    let mut callers = JoinSet::new();
    for _ in 0..4 {
        let (handle, rounds, runs) = (handle.clone(), Arc::clone(&rounds), Arc::clone(&runs));
        callers.spawn(async move {
            for key in (0_u64..).take_while(|_| rounds.load(SeqCst) < ROUNDS) {
                let body = || async {
                    *runs.lock().unwrap().entry(key).or_insert(0) += 1;
                    Ok::<_, Error>(())
                };
                while let Err(error) = handle.call("administered").key(key).run(body()).await {
                    assert!(error.is_retryable(), "{error:?}");
                }
            }
        });
    }
    for round in 1..=ROUNDS {
        let started = runs.lock().unwrap().len();
        wait_for("callers to work", async || runs.lock().unwrap().len() > started).await;
        server.command::<()>(&["SCRIPT", "FLUSH"]).await;
        server.command::<()>(&["CLIENT", "KILL", "TYPE", "normal"]).await;
        server.command::<()>(&["ACL", "SETUSER", "app", &format!(">{round}")]).await;
        rounds.store(round, SeqCst);
    }
    callers.join_all().await;
    let runs = runs.lock().unwrap();
    assert_eq!(runs.iter().find(|(_, count)| **count != 1), None);
}
