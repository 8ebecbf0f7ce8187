//! Clusters and sentinels.

use std::{collections::HashSet, sync::Arc, time::Duration};

use idempotent_runtime::{
    Store,
    store::{Appended, Transition, redis::RedisStore},
    testing::conformance::{Fixture, RULES},
};

use crate::{
    SERVER,
    redis_server::{RedisCluster, RedisSentinel},
    server::restricted,
    support::{LEASE, TTL, abandon, claim, claim_name, connect, granted, key, outcome, request, step},
    wait_for,
};

async fn notified(subscription: &mut idempotent_runtime::store::Subscription) {
    tokio::time::timeout(Duration::from_secs(5), subscription.notified()).await.expect("a notification");
}

/// All transitions on this many keys, by two stores.
async fn exercise(ours: &RedisStore, theirs: &RedisStore, name: &str, keys: usize) {
    for index in 0..keys {
        let key = key(format!("{name}-{index}"));
        let token = claim(ours, &key).await;
        assert_eq!(claim_name(&theirs.claim(&key, &request()).await), "in flight");
        assert!(ours.fence(&key, &token).await.unwrap().is_some());
        assert_eq!(ours.renew(&key, &token, LEASE, TTL).await.unwrap(), Transition::Applied);
        assert_eq!(abandon(ours, &key, &token).await.unwrap(), Transition::Applied);
        let token = granted(theirs.claim(&key, &request()).await);
        assert_eq!(theirs.release(&key, &token, TTL).await.unwrap(), Transition::Applied);
        let token = claim(ours, &key).await;
        assert_eq!(ours.append(&key, &token, &step("a", "1"), LEASE, TTL).await.unwrap(), Appended::Applied);
        assert_eq!(ours.release(&key, &token, TTL).await.unwrap(), Transition::Applied);
        let token = granted(theirs.claim(&key, &request()).await);
        assert_eq!(theirs.steps(&key, &token).await.unwrap(), Some(vec![step("a", "1")]));
        let mut subscription = ours.subscribe(&key).await.unwrap();
        assert_eq!(theirs.complete(&key, &token, &outcome(), TTL).await.unwrap(), Transition::Applied);
        notified(&mut subscription).await;
        assert_eq!(claim_name(&ours.claim(&key, &request()).await), "done 2");
    }
}

async fn listed(store: &RedisStore) -> HashSet<String> {
    let mut keys = HashSet::new();
    let mut after = None;
    loop {
        let page = store.list(Some("tests.operation"), after.as_ref(), 7).await.unwrap();
        keys.extend(page.records.into_iter().map(|record| record.key.as_str().to_owned()));
        match page.next {
            Some(next) => after = Some(next),
            None => return keys,
        }
    }
}

#[tokio::test]
async fn a_cluster_serves_all_slots_and_survives_a_failover() {
    let mut cluster = RedisCluster::start(SERVER).await;
    // With no more permissions than are documented, on every node.
    for node in &cluster.nodes {
        restricted(node, "+scan +cluster|slots +readonly +ping").await;
    }
    let url = cluster.url().replace("://", "://app:canary-password@");
    let (ours, theirs) = (connect(&url).await, connect(&url).await);
    exercise(&ours, &theirs, "slots", 40).await;
    for node in &cluster.nodes[..3] {
        let count: u32 = node.command(&["DBSIZE"]).await;
        assert!(count > 0, "every primary has some of the keys");
    }
    assert_eq!(listed(&theirs).await.len(), 40);

    // What was written is to be there before the primary goes.
    cluster.wait_for_replica().await;
    cluster.nodes[0].kill();
    cluster.wait_for_promotion().await;
    for index in 0..40 {
        let key = key(format!("slots-{index}"));
        wait_for("the key to be served", async || {
            let answer = ours.claim(&key, &request()).await;
            let name = claim_name(&answer);
            assert!(matches!(name.as_str(), "done 2" | "Unavailable"), "{name}");
            name == "done 2"
        })
        .await;
    }
    exercise(&ours, &theirs, "after", 10).await;
    assert_eq!(listed(&theirs).await.len(), 50);
}

/// Every rule, one after the other on one cluster.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_keeps_every_rule() {
    let cluster = Arc::new(RedisCluster::start(SERVER).await);
    for rule in RULES {
        let moved = Arc::clone(&cluster);
        let fixture = Fixture::new(connect(&cluster.url()).await, connect(&cluster.url()).await)
            .tick(Duration::from_secs(2))
            .moved(move |by| {
                let cluster = Arc::clone(&moved);
                Box::pin(async move {
                    for node in &cluster.nodes[..3] {
                        node.advance(by).await;
                    }
                })
            });
        rule.check(fixture).await;
        for node in &cluster.nodes[..3] {
            node.command::<()>(&["FLUSHALL"]).await;
        }
    }
}

#[tokio::test]
async fn slots_that_move_are_followed() {
    let cluster = RedisCluster::start(SERVER).await;
    let (ours, theirs) = (connect(&cluster.url()).await, connect(&cluster.url()).await);
    let key = key("moving");
    let token = claim(&ours, &key).await;
    let slot: u16 = cluster.nodes[1].command(&["CLUSTER", "KEYSLOT", &crate::support::raw(&key)]).await;
    let from = RedisCluster::SLOTS.iter().position(|(first, last)| (*first..=*last).contains(&slot)).expect("a slot");
    let to = (from + 1) % 3;
    let (source, target) = (&cluster.nodes[from], &cluster.nodes[to]);
    let (source_id, target_id): (String, String) =
        (source.command(&["CLUSTER", "MYID"]).await, target.command(&["CLUSTER", "MYID"]).await);
    let slot = slot.to_string();
    target.command::<()>(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &source_id]).await;
    source.command::<()>(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &target_id]).await;
    let (port, raw) = (target.port().to_string(), crate::support::raw(&key));
    source.command::<()>(&["MIGRATE", "127.0.0.1", &port, &raw, "0", "5000"]).await;

    // In between, the source answers ASK.
    assert_eq!(claim_name(&theirs.claim(&key, &request()).await), "in flight");
    assert_eq!(ours.renew(&key, &token, LEASE, TTL).await.unwrap(), Transition::Applied);
    for node in &cluster.nodes[..3] {
        node.command::<()>(&["CLUSTER", "SETSLOT", &slot, "NODE", &target_id]).await;
    }
    // From now on, MOVED.
    assert_eq!(ours.complete(&key, &token, &outcome(), TTL).await.unwrap(), Transition::Applied);
    assert_eq!(claim_name(&theirs.claim(&key, &request()).await), "done 1");
}

#[tokio::test]
async fn a_sentinel_leads_to_the_new_primary() {
    let mut servers = RedisSentinel::start(SERVER).await;
    let (ours, theirs) = (connect(&servers.url()).await, connect(&servers.url()).await);
    exercise(&ours, &theirs, "before", 5).await;
    let key = key("failover");
    let token = claim(&ours, &key).await;
    let mut subscription = theirs.subscribe(&key).await.unwrap();
    servers.wait_for_replica().await;

    servers.servers[0].kill();
    servers.wait_for_primary(1).await;
    wait_for("the completion on the new primary", async || {
        matches!(ours.complete(&key, &token, &outcome(), TTL).await, Ok(Transition::Applied))
    })
    .await;
    notified(&mut subscription).await;
    wait_for("the result on the new primary", async || claim_name(&theirs.claim(&key, &request()).await) == "done 1")
        .await;
    exercise(&ours, &theirs, "after", 5).await;

    // The old primary comes back and is made a replica.
    servers.servers[0].restart().await;
    exercise(&ours, &theirs, "again", 5).await;
}

#[tokio::test]
async fn a_primary_that_hangs_is_left_for_the_new_one() {
    let servers = RedisSentinel::start(SERVER).await;
    let store = connect(&servers.url()).await;
    let key = key("hanging");
    let token = claim(&store, &key).await;
    servers.wait_for_replica().await;
    servers.servers[0].pause();
    servers.wait_for_primary(1).await;
    wait_for("the new primary to be found", async || {
        matches!(store.complete(&key, &token, &outcome(), TTL).await, Ok(Transition::Applied))
    })
    .await;
    // Awake again it is demoted, and the record of the new primary stands.
    servers.servers[0].resume();
    assert_eq!(claim_name(&store.claim(&key, &request()).await), "done 1");
}
