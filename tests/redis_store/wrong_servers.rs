//! Servers and logins that a store cannot work with: refused at `connect`, each with what to change.

use std::{convert::Infallible, fs};

use bytes::Bytes;
use http_body_util::Full;
use idempotent_runtime::{Error, Idempotency, Store, StoreErrorKind, tower::IdempotencyLayer};
use idempotent_tests::captured_events::CapturedEvents;
use tower::{Layer, ServiceExt};

use crate::{
    SERVER,
    redis_server::{RedisCluster, RedisSentinel, RedisServer},
    support::{TTL, assert_says_causes_once, builder, claim, connect, full_text, key, kind, outcome, request},
};

/// Refused, and told this.
async fn is_refused(url: &str, what: &str) {
    for allow in [false, true] {
        let error = builder().allow_eviction(allow).connect(url).await.expect_err(what);
        assert_eq!(kind(&error), StoreErrorKind::Refused, "{what}: {error:?}");
        assert!(full_text(&error).contains(what), "{what}: {error:?}");
    }
}

#[tokio::test]
async fn a_node_of_a_cluster_is_refused_unless_the_url_says_so() {
    let cluster = RedisCluster::start(SERVER).await;
    for node in &cluster.nodes {
        is_refused(&node.url(), "redis+cluster://").await;
    }
    connect(&cluster.url()).await;
}

#[tokio::test]
async fn a_replica_is_refused() {
    let primary = SERVER.start().await;
    let replica = SERVER.start_with(&["--replicaof", "127.0.0.1", &primary.port().to_string()]).await;
    is_refused(&replica.url(), "connect to its primary").await;
}

#[tokio::test]
async fn a_sentinel_is_refused_unless_the_url_says_so() {
    let servers = RedisSentinel::start(SERVER).await;
    is_refused(&servers.sentinel_url(), "redis+sentinel://").await;
    connect(&servers.url()).await;
}

/// Gives a login all permissions but these, and returns its URL.
async fn login(server: &RedisServer, but: &str) -> String {
    let rules = format!("ACL SETUSER app reset on >canary ~* &* +@all {but}");
    server.command::<()>(&rules.split_ascii_whitespace().collect::<Vec<_>>()).await;
    format!("redis://app:canary@{}", server.address())
}

/// Granted a claim, it could not record what came of it.
#[tokio::test]
async fn a_login_that_may_not_run_scripts_is_refused() {
    let server = SERVER.start().await;
    for but in ["-@scripting", "-eval", "-evalsha"] {
        is_refused(&login(&server, but).await, "lacks a permission").await;
    }
    // Also where the script is known to the server.
    connect(&server.url()).await;
    is_refused(&login(&server, "-eval").await, "lacks a permission").await;
}

#[tokio::test]
async fn a_server_that_does_not_tell_about_itself_is_refused_unless_eviction_is_accepted() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let config = dir.path().join("redis.conf");
    fs::write(&config, "save \"\"\nrename-command INFO \"\"\n").expect("a file");
    // Its configuration comes first.
    let renamed = SERVER.start_configured(&config).await;
    let forbidding = SERVER.start().await;
    for url in [renamed.url(), login(&forbidding, "-info").await] {
        let error = builder().connect(&url).await.expect_err("it may evict records");
        assert_eq!(kind(&error), StoreErrorKind::Refused);
        assert!(full_text(&error).contains("allow_eviction"), "{error:?}");
        let store = builder().allow_eviction(true).connect(&url).await.expect("that is accepted");
        let token = claim(&store, &key("k")).await;
        let _ = store.complete(&key("k"), &token, &outcome(), TTL).await.expect("complete");
    }
}

#[tokio::test]
async fn a_database_that_is_not_there_is_refused() {
    let server = SERVER.start().await;
    is_refused(&format!("{}/99", server.url()), "does not have the database").await;
    is_refused(&format!("{}/1", login(&server, "-select").await), "may not select it").await;
}

/// A fault that `connect` could not see is told at the call, and is not to be tried again.
#[tokio::test]
async fn a_fault_that_does_not_pass_is_refused() {
    let server = SERVER.start().await;
    // A command of its own, and one in a script.
    for (but, name) in [("-set", "claim"), ("-getrange", "complete")] {
        let store = connect(&login(&server, "").await).await;
        let (key, other) = (key(name), self::key("other"));
        // What another store has claimed is ended by a script.
        let token = claim(&connect(&server.url()).await, &key).await;
        login(&server, but).await;
        let answer = match name {
            "claim" => store.claim(&other, &request()).await.map(drop),
            _ => store.complete(&key, &token, &outcome(), TTL).await.map(drop),
        };
        let error = answer.expect_err("no permission");
        assert_eq!(error.kind(), StoreErrorKind::Refused, "{but}: {error:?}");
        assert!(!full_text(&error).contains("canary"), "{error:?}");
        let error = Error::from(error);
        assert_eq!((error.http_status(), error.is_retryable()), (500, false));
    }
}

/// An operator reads what failed, of which kind, and why, of a call and of a request; and no secret.
#[tokio::test]
async fn a_fault_is_logged_with_its_kind_and_causes() {
    let mut server = SERVER.start().await;
    let handle = Idempotency::new(connect(&login(&server, "").await).await);
    let layer = IdempotencyLayer::ietf("shop", handle.clone()).unscoped().build().expect("settings that work");
    let client = server.client().await;
    let operator = client.clone();
    let permit = async |rule: Option<&str>| {
        if let Some(rule) = rule {
            let mut client = operator.clone();
            redis::cmd("ACL").arg(&["SETUSER", "app", rule]).exec_async(&mut client).await.expect("permissions");
        }
    };
    // The bodies take from the login what the end of their run needs.
    let body = move || {
        let mut client = client.clone();
        async move {
            redis::cmd("ACL").arg(&["SETUSER", "app", "-set"]).exec_async(&mut client).await.expect("permissions");
            Ok::<_, Error>("canary".to_owned())
        }
    };
    let handler = body.clone();
    let service = layer.layer(tower::service_fn(move |_: http::Request<_>| {
        let ran = handler();
        async move {
            let answer = ran.await.expect("a body");
            Ok::<_, Infallible>(http::Response::new(Full::<Bytes>::from(answer)))
        }
    }));
    let events = CapturedEvents::start();
    let told = async |rule: Option<&str>, key: &str, event: &str, fault: &str, cause: &str| {
        permit(rule).await;
        let _ = handle.call("charge").key(key).arguments("canary-argument").run(body()).await;
        permit(rule).await;
        let request = http::Request::post("/canary-path").header("idempotency-key", key);
        let request = request.body(Full::<Bytes>::from("canary-body")).expect("a request");
        let _ = service.clone().oneshot(request).await;
        let lines = events.take();
        assert_eq!(lines.len(), 2, "{lines:?}");
        for (line, operation) in lines.iter().zip(["charge", "shop"]) {
            let operation = format!("operation=\"{operation}\"");
            for part in ["ERROR", event, &operation, fault, cause] {
                assert!(line.contains(part), "no {part} in {line}");
            }
            assert!(!line.contains("canary"), "{line}");
        }
    };
    let (refused, not_recorded) = ("idempotent call refused", "a body ran and its outcome could not be recorded");
    told(Some("-set"), "canary-1", refused, "kind=Refused error=the Redis login lacks", ": the server answered NOPERM")
        .await;
    // In a script, the server has no code for it.
    told(
        Some("+set"),
        "canary-2",
        not_recorded,
        "kind=Refused error=the Redis server or login",
        ": the server answered ERR",
    )
    .await;
    server.kill();
    told(None, "canary-3", refused, "kind=Unavailable error=Redis cannot be reached", ": Connection refused").await;
}

#[tokio::test]
async fn an_error_of_connect_says_its_causes_once() {
    let server = SERVER.start().await;
    let url = login(&server, "").await;
    let wrong = [
        "redis://127.0.0.1:1".to_owned(),
        "redis://nowhere.invalid".to_owned(),
        "redis+sentinel://127.0.0.1:1/primary".to_owned(),
        "redis+cluster://127.0.0.1:1".to_owned(),
        "redis://[".to_owned(),
        url.replace("canary", "wrong"),
        format!("{url}/99"),
    ];
    for url in wrong {
        assert_says_causes_once(&builder().connect(&url).await.expect_err(&url));
    }
}

/// Two masters of a cluster, and a key that the other one has.
#[tokio::test]
async fn a_key_of_another_node_is_refused() {
    let cluster = RedisCluster::start(SERVER).await;
    let mut refused = 0;
    let url = login(&cluster.nodes[1], "-info").await;
    let store = builder().allow_eviction(true).connect(&url).await.expect("it cannot be known");
    for number in 0..20 {
        if let Err(error) = store.claim(&key(number), &request()).await {
            assert_eq!(error.kind(), StoreErrorKind::Refused);
            assert!(full_text(&error).contains("redis+cluster://"), "{error:?}");
            refused += 1;
        }
    }
    assert!(refused > 0, "one node of three has all keys");
}

#[tokio::test]
async fn a_server_that_forgets_when_it_restarts_is_told_of() {
    let forgetful = SERVER.start().await;
    let events = CapturedEvents::start();
    connect(&forgetful.url()).await;
    let told = events.take();
    assert!(told.len() == 1 && told[0].starts_with("WARN") && told[0].contains("appendonly yes"), "{told:?}");
    let durable = SERVER.start_durable().await;
    connect(&durable.url()).await;
    assert_eq!(events.take(), Vec::<String>::new());
}

#[tokio::test]
async fn an_ipv6_address_can_be_connected_to() {
    let server = SERVER.start_with(&["--bind", "127.0.0.1", "::1"]).await;
    let store = connect(&format!("redis://[::1]:{}/0", server.port())).await;
    claim(&store, &key("k")).await;
}
