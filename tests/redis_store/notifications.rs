//! Checks that waiters are woken: by every ending, by any connection, and after reconnections too.

use std::time::Duration;

use idempotent_runtime::{
    Store,
    store::{Appended, RecordKey, Subscription, Transition, redis::RedisStore},
};
use idempotent_tests::proxy::{Fault, Proxy};

use crate::{
    SERVER,
    redis_server::RedisServer,
    support::{Fixture, LEASE, TTL, abandon, claim, claim_name, connect, key, outcome, raw, request, step},
    wait_for,
};

async fn woken(subscription: &mut Subscription) {
    tokio::time::timeout(Duration::from_secs(5), subscription.notified()).await.expect("a notification");
}

async fn silent(subscription: &mut Subscription) {
    let answer = tokio::time::timeout(Duration::from_millis(30), subscription.notified()).await;
    assert!(answer.is_err(), "woken without a reason");
}

/// Counts the connections that listen to the key's channel.
async fn listeners(server: &RedisServer, key: &RecordKey) -> u32 {
    let (_, count): (String, u32) = server.command(&["PUBSUB", "NUMSUB", &raw(key)]).await;
    count
}

#[tokio::test]
async fn every_ending_by_another_connection_wakes() {
    let Fixture { server: _server, ours, theirs } = Fixture::start().await;
    for ending in ["complete", "release", "release-steps", "abandon", "forget"] {
        for contended in [false, true] {
            let key = key(format!("{ending}-{contended}"));
            let token = claim(&ours, &key).await;
            // A waiter has usually been refused before it subscribes; both are to be enough.
            if contended {
                assert_eq!(claim_name(&theirs.claim(&key, &request()).await), "in flight");
            }
            if ending == "release-steps" {
                let answer = ours.append(&key, &token, &step("a", "1"), LEASE, TTL).await.unwrap();
                assert_eq!(answer, Appended::Applied);
            }
            let mut subscription = theirs.subscribe(&key).await.unwrap();
            silent(&mut subscription).await;
            let applied = match ending {
                "complete" => ours.complete(&key, &token, &outcome(), TTL).await.unwrap() == Transition::Applied,
                "release" | "release-steps" => ours.release(&key, &token, TTL).await.unwrap() == Transition::Applied,
                "abandon" => abandon(&ours, &key, &token).await.unwrap() == Transition::Applied,
                _ => ours.forget(&key).await.unwrap(),
            };
            assert!(applied);
            woken(&mut subscription).await;
        }
    }
}

#[tokio::test]
async fn a_takeover_keeps_the_waiters() {
    let Fixture { server, ours, theirs } = Fixture::start().await;
    let key = key("takeover");
    claim(&ours, &key).await;
    let mut subscription = theirs.subscribe(&key).await.unwrap();
    crate::support::lapse(&server, &key).await;
    let token = claim(&ours, &key).await;
    let _ = ours.complete(&key, &token, &outcome(), TTL).await.unwrap();
    woken(&mut subscription).await;
}

#[tokio::test]
async fn only_the_keys_own_waiters_are_woken() {
    let Fixture { server, ours, theirs } = Fixture::start().await;
    let (first, second) = (key("first"), key("second"));
    let token = claim(&ours, &first).await;
    claim(&ours, &second).await;
    let mut waiters = Vec::new();
    for _ in 0..10 {
        waiters.push(theirs.subscribe(&first).await.unwrap());
    }
    let mut other = theirs.subscribe(&second).await.unwrap();
    assert_eq!(listeners(&server, &first).await, 1, "one subscription for all waiters of a process");
    let _ = ours.complete(&first, &token, &outcome(), TTL).await.unwrap();
    for waiter in &mut waiters {
        woken(waiter).await;
    }
    silent(&mut other).await;
}

#[tokio::test]
async fn without_waiters_nothing_is_published() {
    let Fixture { server, ours, theirs } = Fixture::start().await;
    let key = key("quiet");
    let token = claim(&ours, &key).await;
    let _ = ours.complete(&key, &token, &outcome(), TTL).await.unwrap();
    assert_eq!(claim_name(&theirs.claim(&key, &request()).await), "done 1");
    let stats: String = server.command(&["INFO", "commandstats"]).await;
    assert!(!stats.contains("cmdstat_publish"), "{stats}");
}

#[tokio::test]
async fn the_last_waiter_leaving_ends_the_subscription() {
    let Fixture { server, ours, theirs } = Fixture::start().await;
    let key = key("leaving");
    claim(&ours, &key).await;
    let first = theirs.subscribe(&key).await.unwrap();
    let second = theirs.subscribe(&key).await.unwrap();
    drop(first);
    claim(&ours, &self::key("another")).await;
    assert_eq!(listeners(&server, &key).await, 1);
    drop(second);
    wait_for("the unsubscription", async || listeners(&server, &key).await == 0).await;
}

#[tokio::test]
async fn a_waiter_who_comes_right_after_the_last_one_left_is_not_lost() {
    let Fixture { server: _server, ours, theirs } = Fixture::start().await;
    let key = key("relay");
    let token = claim(&ours, &key).await;
    let first = theirs.subscribe(&key).await.unwrap();
    // Both are told to the subscriptions' task before it runs.
    drop(first);
    let mut second = theirs.subscribe(&key).await.unwrap();
    let _ = ours.complete(&key, &token, &outcome(), TTL).await.unwrap();
    woken(&mut second).await;
}

/// Waiters that come and go as fast as they can: whoever has subscribed is woken.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_waiter_who_comes_during_an_unsubscription_is_not_lost() {
    let Fixture { server: _server, ours, theirs } = Fixture::start().await;
    let theirs = std::sync::Arc::new(theirs);
    let key = key("churn");
    for _ in 0..200 {
        let token = claim(&ours, &key).await;
        let mut waiters = tokio::task::JoinSet::new();
        for index in 0..4 {
            let (store, key) = (std::sync::Arc::clone(&theirs), key.clone());
            waiters.spawn(async move {
                let subscription = store.subscribe(&key).await.unwrap();
                if index % 2 == 0 {
                    drop(subscription);
                    return None;
                }
                Some(subscription)
            });
        }
        let subscriptions = waiters.join_all().await;
        let _ = ours.release(&key, &token, TTL).await.unwrap();
        for mut subscription in subscriptions.into_iter().flatten() {
            woken(&mut subscription).await;
        }
    }
}

async fn behind_a_proxy() -> (RedisServer, Proxy, RedisStore, RedisStore) {
    let server = SERVER.start().await;
    let proxy = Proxy::start(server.address()).await;
    let (ours, theirs) = (connect(&server.url()).await, connect(&format!("redis://{}", proxy.address())).await);
    (server, proxy, ours, theirs)
}

#[tokio::test]
async fn a_reconnection_subscribes_again_and_wakes_everybody() {
    let (server, proxy, ours, theirs) = behind_a_proxy().await;
    let key = key("reconnect");
    let token = claim(&ours, &key).await;
    let mut subscription = theirs.subscribe(&key).await.unwrap();
    proxy.cut();
    // Told to look for themselves, since something may have been missed.
    woken(&mut subscription).await;
    wait_for("the new subscription", async || listeners(&server, &key).await == 1).await;
    // At most one more hint after the subscription is made.
    let _ = tokio::time::timeout(Duration::from_millis(100), subscription.notified()).await;
    silent(&mut subscription).await;
    let _ = ours.complete(&key, &token, &outcome(), TTL).await.unwrap();
    woken(&mut subscription).await;
}

#[tokio::test]
async fn a_notification_missed_during_an_outage_is_made_up_for() {
    let (_server, proxy, ours, theirs) = behind_a_proxy().await;
    let key = key("outage");
    let token = claim(&ours, &key).await;
    let mut subscription = theirs.subscribe(&key).await.unwrap();
    proxy.set(Fault::Refuse);
    proxy.cut();
    woken(&mut subscription).await;
    let _ = ours.complete(&key, &token, &outcome(), TTL).await.unwrap();
    // A subscriber that comes meanwhile is served late, not refused.
    let mut late = theirs.subscribe(&key).await.unwrap();
    proxy.set(Fault::None);
    woken(&mut subscription).await;
    woken(&mut late).await;
    assert_eq!(claim_name(&theirs.claim(&key, &request()).await), "done 1");
}

#[tokio::test]
async fn a_restarted_server_is_subscribed_to_again() {
    let mut fixture = Fixture::on(SERVER.start_durable().await).await;
    let key = key("restart");
    let token = claim(&fixture.ours, &key).await;
    let mut subscription = fixture.theirs.subscribe(&key).await.unwrap();
    fixture.server.restart().await;
    wait_for("the new subscription", async || listeners(&fixture.server, &key).await == 1).await;
    wait_for("the completion", async || fixture.ours.complete(&key, &token, &outcome(), TTL).await.is_ok()).await;
    woken(&mut subscription).await;
}
