//! Servers that compare values: a first run ends without a script, and whatever else stands there is left to the script.

use std::{collections::BTreeMap, time::Duration};

use idempotent_runtime::{
    Store, StoreErrorKind,
    store::{Appended, RecordKey, StoreResult, Suspension, Token, Transition, Why, redis::RedisStore},
};
use idempotent_tests::{
    proxy::{Fault, Proxy},
    redis_server::RedisProgram,
};
use tokio::time::Instant;

use crate::{
    SERVER,
    cost::{commands, counts},
    redis_server::{RedisCluster, RedisServer},
    server::restricted,
    support::{
        Fixture, LEASE, TTL, abandon, bytes_of, claim, claim_name, connect, granted, key, left_of, outcome, raw,
        recording, request, step,
    },
    wait_for,
};

/// The ways in which a first run ends or goes on without a script, and the command of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Renew,
    Complete,
    Release,
    GiveBack,
}

use Change::{Complete, GiveBack, Release, Renew};

const CHANGES: [Change; 4] = [Renew, Complete, Release, GiveBack];

impl Change {
    const fn command(self) -> &'static str {
        match self {
            Renew | Complete => "set",
            Release | GiveBack => "delifeq",
        }
    }

    async fn make(self, store: &RedisStore, key: &RecordKey, token: &Token) -> StoreResult<Transition> {
        match self {
            Renew => store.renew(key, token, LEASE, TTL * 2).await,
            Complete => store.complete(key, token, &outcome(), TTL).await,
            Release => store.release(key, token, TTL).await,
            GiveBack => {
                store.suspend(key, token, Why::Unstarted, Duration::ZERO, TTL).await.map(|answer| match answer {
                    Suspension::Applied | Suspension::Vacant => Transition::Applied,
                    _ => Transition::Lost,
                })
            }
        }
    }

    async fn applies(self, store: &RedisStore, key: &RecordKey, token: &Token) {
        assert_eq!(self.make(store, key, token).await.unwrap(), Transition::Applied, "{self:?}");
    }

    /// Counts the commands of the change, and of nothing else.
    async fn cost(self, fixture: &Fixture, key: &RecordKey, token: &Token) -> BTreeMap<String, u64> {
        commands(&fixture.server, async || self.applies(&fixture.ours, key, token).await).await
    }
}

/// A server that knows all scripts, so that each is one request.
async fn start() -> Fixture {
    let fixture = Fixture::start().await;
    let store = &fixture.theirs;
    for change in CHANGES {
        let key = key("scripts");
        // Claimed elsewhere, it ends by script.
        let token = claim(&fixture.ours, &key).await;
        change.applies(store, &key, &token).await;
        store.forget(&key).await.unwrap();
    }
    fixture
}

#[tokio::test]
async fn a_first_run_ends_by_one_native_command() {
    let fixture = start().await;
    for change in CHANGES {
        for recorded in [false, true] {
            let key = key(format!("{change:?}-{recorded}"));
            let request = if recorded { recording() } else { request() };
            let token = granted(fixture.ours.claim(&key, &request).await);
            assert_eq!(change.cost(&fixture, &key, &token).await, counts([(change.command(), 1)]), "{change:?}");
        }
    }
}

#[tokio::test]
async fn a_renewed_run_and_a_fenced_one_end_by_a_native_command_too() {
    let fixture = start().await;
    for change in CHANGES {
        let key = key(format!("{change:?}"));
        let token = claim(&fixture.ours, &key).await;
        for ttl in [TTL, TTL * 3] {
            assert_eq!(fixture.ours.renew(&key, &token, LEASE, ttl).await.unwrap(), Transition::Applied);
            assert!(left_of(&fixture.server, &key).await > ttl, "the lease counts");
        }
        let fence = fixture.ours.fence(&key, &token).await.unwrap().expect("ours");
        assert_eq!(change.cost(&fixture, &key, &token).await, counts([(change.command(), 1)]), "{change:?}");
        if change == Renew {
            assert_eq!(fixture.theirs.fence(&key, &token).await.unwrap(), Some(fence));
        }
    }
}

/// A native command writes, byte for byte, what a script would have written.
#[tokio::test]
async fn a_record_is_the_same_whoever_writes_it() {
    let fixture = start().await;
    for change in [Renew, Complete] {
        for recorded in [false, true] {
            let request = if recorded { recording() } else { request() };
            let mut records = Vec::new();
            for (name, store) in [("native", &fixture.ours), ("script", &fixture.theirs)] {
                let key = key(format!("{change:?}-{recorded}-{name}"));
                let token = granted(fixture.ours.claim(&key, &request).await);
                change.applies(store, &key, &token).await;
                records.push(fixture.server.command::<Vec<u8>>(&["GET", &raw(&key)]).await);
            }
            assert_eq!(records[0], records[1], "{change:?}");
        }
    }
}

/// The script is what publishes. Without the waiter's flag in the compared bytes, the waiter would sleep.
#[tokio::test]
async fn a_waiter_that_came_since_the_claim_is_woken() {
    let fixture = start().await;
    for change in CHANGES {
        for contends in [false, true] {
            let key = key(format!("{change:?}-{contends}"));
            let token = claim(&fixture.ours, &key).await;
            let mut subscription = fixture.theirs.subscribe(&key).await.unwrap();
            if contends {
                assert_eq!(claim_name(&fixture.theirs.claim(&key, &request()).await), "in flight");
            }
            let cost = change.cost(&fixture, &key, &token).await;
            assert_eq!(cost.get("evalsha"), Some(&1), "{change:?}: {cost:?}");
            if change == Renew {
                // The flag is still there.
                Complete.applies(&fixture.ours, &key, &token).await;
            }
            tokio::time::timeout(Duration::from_secs(5), subscription.notified()).await.expect("a notification");
        }
    }
}

#[tokio::test]
async fn a_run_with_steps_or_after_another_ends_by_its_script() {
    let fixture = start().await;
    let Fixture { ours, theirs, .. } = &fixture;
    for change in CHANGES {
        let stepped = key(format!("{change:?}-steps"));
        let token = claim(ours, &stepped).await;
        assert_eq!(ours.append(&stepped, &token, &step("a", "1"), LEASE, TTL).await.unwrap(), Appended::Applied);
        let taken_over = key(format!("{change:?}-taken"));
        let _ = abandon(ours, &taken_over, &claim(ours, &taken_over).await).await.unwrap();
        let successor = claim(ours, &taken_over).await;
        let elsewhere = key(format!("{change:?}-elsewhere"));
        let other = claim(theirs, &elsewhere).await;
        for (key, token) in [(stepped, token), (taken_over, successor), (elsewhere, other)] {
            let cost = change.cost(&fixture, &key, &token).await;
            // Without a native command that would be in vain.
            assert_eq!((cost.get("evalsha"), cost.get("delifeq")), (Some(&1), None), "{change:?}: {cost:?}");
        }
    }
    // A step that another store of the process has recorded is kept.
    let key = key("steps-elsewhere");
    let token = claim(ours, &key).await;
    assert_eq!(theirs.append(&key, &token, &step("a", "1"), LEASE, TTL).await.unwrap(), Appended::Applied);
    Release.applies(ours, &key, &token).await;
    let token = claim(ours, &key).await;
    assert_eq!(ours.steps(&key, &token).await.unwrap(), Some(vec![step("a", "1")]));
}

/// Of another life, taken over, expired: the owner is told, and nothing is changed.
#[tokio::test]
async fn a_record_that_is_not_ours_any_more_is_left_alone() {
    let fixture = start().await;
    let Fixture { server, ours, theirs } = &fixture;
    for change in CHANGES {
        for what in ["forgotten", "another-life", "taken-over", "expired"] {
            let key = key(format!("{change:?}-{what}"));
            let token = claim(ours, &key).await;
            match what {
                "taken-over" => crate::support::lapse(server, &key).await,
                "expired" => server.command::<()>(&["PEXPIRE", &raw(&key), "0"]).await,
                _ => assert!(theirs.forget(&key).await.unwrap()),
            }
            if matches!(what, "another-life" | "taken-over") {
                claim(theirs, &key).await;
            }
            let before = bytes_of(server, &key).await;
            let expected = if before.is_none() && matches!(change, Release | GiveBack) {
                Transition::Applied
            } else {
                Transition::Lost
            };
            assert_eq!(change.make(ours, &key, &token).await.unwrap(), expected, "{change:?}, {what}");
            assert_eq!(bytes_of(server, &key).await, before, "{change:?}, {what}");
        }
    }
}

#[tokio::test]
async fn a_native_change_cut_anywhere_is_applied_once_when_repeated() {
    let server = SERVER.start().await;
    let proxy = Proxy::start(server.address()).await;
    let ours = connect(&format!("redis://{}", proxy.address())).await;
    for fault in [Fault::CutBeforeRequest, Fault::CutAfterRequest, Fault::CutBeforeReply] {
        for change in CHANGES {
            let key = key(format!("{change:?}-{fault:?}"));
            wait_for("the store to be back", async || ours.inspect(&key).await.is_ok()).await;
            let token = claim(&ours, &key).await;
            let before = bytes_of(&server, &key).await;
            let cost = commands(&server, async || {
                proxy.set(fault);
                let error = change.make(&ours, &key, &token).await.expect_err("cut");
                assert_eq!(error.kind(), StoreErrorKind::Unavailable);
                assert_eq!(proxy.fault(), Fault::None, "the fault happened");
            });
            let cost = cost.await;
            assert!(!cost.contains_key("evalsha"), "{change:?}: the native command was cut: {cost:?}");
            let between = bytes_of(&server, &key).await;
            match fault {
                Fault::CutBeforeRequest => assert_eq!(between, before, "nothing arrived"),
                Fault::CutBeforeReply => assert_ne!(between, before, "{change:?}: it was applied"),
                _ => {}
            }
            let deadline = Instant::now() + Duration::from_secs(5);
            let answer = loop {
                match change.make(&ours, &key, &token).await {
                    Ok(answer) => break answer,
                    Err(error) => assert!(Instant::now() < deadline, "not back in time: {error:?}"),
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            };
            assert_eq!(answer, Transition::Applied, "{change:?}, {fault:?}");
            if fault == Fault::CutBeforeReply {
                assert_eq!(bytes_of(&server, &key).await, between, "the repeat changed nothing");
            }
            ours.forget(&key).await.unwrap();
        }
    }
}

/// Native commands are refused for lack of memory; scripts of ends are not.
#[tokio::test]
async fn a_full_server_lets_a_run_end_by_its_script() {
    let fixture = start().await;
    for change in CHANGES {
        let key = key(format!("{change:?}"));
        let token = claim(&fixture.ours, &key).await;
        fixture.server.command::<()>(&["CONFIG", "SET", "maxmemory", "1"]).await;
        change.applies(&fixture.ours, &key, &token).await;
        fixture.server.command::<()>(&["CONFIG", "SET", "maxmemory", "0"]).await;
    }
    // The server can do it again.
    let key = key("afterwards");
    let token = claim(&fixture.ours, &key).await;
    assert_eq!(Complete.cost(&fixture, &key, &token).await, counts([("set", 1)]));
}

/// Denied once in the life of a connection, and not at each end.
#[tokio::test]
async fn a_login_without_the_command_ends_by_script() {
    let server = SERVER.start().await;
    let store = connect(&restricted(&server, "").await).await;
    for number in 0..3 {
        let key = key(number);
        let token = claim(&store, &key).await;
        Release.applies(&store, &key, &token).await;
        assert_eq!(bytes_of(&server, &key).await, None);
    }
    let stats: String = server.command(&["INFO", "commandstats"]).await;
    assert!(stats.contains("cmdstat_delifeq:calls=0,") && stats.contains("rejected_calls=1,"), "{stats}");
}

/// Another server may stand behind an address after a failover.
#[tokio::test]
async fn what_a_server_can_do_is_asked_at_each_connection() {
    let (older, newer) = (RedisProgram::Redis.start().await, SERVER.start().await);
    let proxy = Proxy::start(newer.address()).await;
    let store = connect(&format!("redis://{}", proxy.address())).await;
    let mut scripts = Vec::new();
    for (round, server) in [&newer, &older, &newer].into_iter().enumerate() {
        // Claimed on the server before, with bytes that this one has not.
        let (key, other) = (key(round), key(format!("{round}-other")));
        let stale = claim(&store, &other).await;
        proxy.retarget(server.address());
        proxy.cut();
        wait_for("the other server", async || store.inspect(&key).await.is_ok()).await;
        let run = commands(server, async || {
            let token = claim(&store, &key).await;
            Complete.applies(&store, &key, &token).await;
        });
        scripts.push(run.await.keys().any(|name| name.starts_with("eval")));
        let expected = if round == 0 { Transition::Applied } else { Transition::Lost };
        assert_eq!(Complete.make(&store, &other, &stale).await.unwrap(), expected);
    }
    assert_eq!(scripts, [false, true, false]);
}

#[tokio::test]
async fn a_cluster_compares_on_each_of_its_nodes() {
    let cluster = RedisCluster::start(SERVER).await;
    let store = connect(&cluster.url()).await;
    let primaries = &cluster.nodes[..3];
    for node in primaries {
        node.command::<()>(&["CONFIG", "RESETSTAT"]).await;
    }
    for number in 0..30 {
        let key = key(number);
        let token = claim(&store, &key).await;
        Renew.applies(&store, &key, &token).await;
        let end = if number % 2 == 0 { Complete } else { Release };
        end.applies(&store, &key, &token).await;
    }
    for node in primaries {
        assert!(!ran_a_script(node).await);
    }
}

async fn ran_a_script(server: &RedisServer) -> bool {
    let stats: String = server.command(&["INFO", "commandstats"]).await;
    stats.contains("cmdstat_eval")
}
