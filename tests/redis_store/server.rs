//! Checks which servers the store accepts, what servers refuse, and what may lie under a key.

use std::time::Duration;

use idempotent_runtime::{
    SetupError, Store, StoreErrorKind,
    store::{Appended, State, TakeOver, Token, Transition, Why, redis::RedisStore},
};
use idempotent_tests::proxy::Proxy;

use crate::{
    SERVER,
    redis_server::RedisServer,
    support::{
        Fixture, LEASE, PAUSE, TTL, abandon, builder, bytes_of, claim, claim_name, connect, full_text, granted, key,
        kind, lapse, outcome, raw, request, request_of, step, suspend, transition_name,
    },
    wait_for,
};

#[tokio::test]
async fn an_evicting_server_is_refused_unless_allowed() {
    let server = SERVER.start().await;
    server.command::<()>(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]).await;
    let error = builder().connect(&server.url()).await.expect_err("refused");
    assert_eq!(kind(&error), StoreErrorKind::Refused);
    assert!(full_text(&error).contains("maxmemory-policy"));
    let store = builder().allow_eviction(true).connect(&server.url()).await.expect("allowed");
    claim(&store, &key("allowed")).await;
}

#[tokio::test]
async fn settings_that_cannot_work_are_refused() {
    let server = SERVER.start().await;
    for prefix in ["with space", "with{braces}", "ümlaut", &"x".repeat(65)] {
        let answer = builder().prefix(prefix).connect(&server.url()).await;
        assert!(matches!(answer, Err(SetupError::Setting(_))), "{prefix}");
    }
    assert!(matches!(RedisStore::connect("http://localhost").await, Err(SetupError::Url(_))));
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unavailable() {
    let mut server = SERVER.start().await;
    server.kill();
    let error = builder().connect(&server.url()).await.expect_err("nobody there");
    assert_eq!(kind(&error), StoreErrorKind::Unavailable);
}

#[tokio::test]
async fn prefixes_keep_stores_apart() {
    let server = SERVER.start().await;
    let first = builder().prefix("first:").connect(&server.url()).await.expect("a store");
    let second = builder().prefix("sec*nd:").connect(&server.url()).await.expect("a store");
    let key = key("shared");
    claim(&first, &key).await;
    claim(&second, &key).await;
    for store in [&first, &second] {
        assert_eq!(store.list(None, None, 100).await.unwrap().records.len(), 1);
    }
    assert!(first.forget(&key).await.unwrap());
    assert!(second.inspect(&key).await.unwrap().is_some());
}

#[tokio::test]
async fn a_full_server_refuses_claims_and_accepts_endings() {
    let Fixture { server, ours, theirs } = Fixture::start().await;
    let keys = ["complete", "release", "abandon", "renew"].map(key);
    let mut tokens = Vec::new();
    for key in &keys {
        tokens.push(claim(&ours, key).await);
    }
    let (done, lapsed) = (key("done"), key("lapsed"));
    let token = claim(&ours, &done).await;
    let _ = ours.complete(&done, &token, &outcome(), TTL).await.unwrap();
    claim(&ours, &lapsed).await;
    lapse(&server, &lapsed).await;
    let [failed, paused, barred, taken] = ["failed", "paused", "barred", "taken"].map(key);
    let failed_run = claim(&ours, &failed).await;
    let _ = suspend(&ours, &failed, &failed_run, Why::Failed).await.unwrap();
    for key in [&paused, &barred] {
        let token = claim(&ours, key).await;
        let _ = ours.suspend(key, &token, Why::Abandoned, PAUSE, TTL).await.unwrap();
    }
    claim(&ours, &taken).await;
    lapse(&server, &taken).await;
    let successor = request();
    let successors_token = granted(ours.claim(&taken, &successor).await);
    server.command::<()>(&["CONFIG", "SET", "maxmemory", "1"]).await;

    // Nothing new is granted.
    assert_eq!(claim_name(&theirs.claim(&key("new"), &request()).await), "Full");
    assert_eq!(claim_name(&theirs.claim(&lapsed, &request()).await), "Full");
    // What is there is told.
    assert_eq!(claim_name(&theirs.claim(&done, &request()).await), "done 1");
    assert_eq!(claim_name(&theirs.claim(&keys[0], &request()).await), "in flight");
    let refusing = request().with_take_over(TakeOver::Never);
    assert_eq!(claim_name(&theirs.claim(&lapsed, &refusing).await), "abandoned 1");
    assert_eq!(claim_name(&theirs.claim(&failed, &refusing).await), "Full");
    assert_eq!(claim_name(&theirs.claim(&failed, &request_of(&failed_run)).await), "suspended 1", "it has ended");
    assert_eq!(claim_name(&theirs.claim(&barred, &refusing).await), "abandoned 1");
    assert_eq!(claim_name(&theirs.claim(&paused, &request()).await), "suspended 1");
    assert_eq!(claim_name(&theirs.claim(&taken, &successor).await), "claimed 2");
    let again = request_of(&tokens[0]);
    assert_eq!(claim_name(&theirs.claim(&keys[0], &again).await), "claimed 1");
    // What was granted can be fenced, kept and ended.
    assert!(ours.fence(&keys[0], &tokens[0]).await.unwrap().is_some());
    assert_eq!(ours.renew(&keys[3], &tokens[3], LEASE, TTL).await.unwrap(), Transition::Applied);
    for (key, token) in [(&keys[0], &tokens[0]), (&taken, &successors_token)] {
        for step in [step("a", "1"), step("b", "2")] {
            assert_eq!(ours.append(key, token, &step, LEASE, TTL).await.unwrap(), Appended::Applied);
        }
        assert_eq!(ours.steps(key, token).await.unwrap().expect("ours").len(), 2);
    }
    assert_eq!(ours.release(&taken, &successors_token, TTL).await.unwrap(), Transition::Applied);
    assert_eq!(ours.inspect(&taken).await.unwrap().expect("a record").state, State::Failed);
    assert_eq!(ours.complete(&keys[0], &tokens[0], &outcome(), TTL).await.unwrap(), Transition::Applied);
    assert_eq!(ours.release(&keys[1], &tokens[1], TTL).await.unwrap(), Transition::Applied);
    assert_eq!(abandon(&ours, &keys[2], &tokens[2]).await.unwrap(), Transition::Applied);
    assert_eq!(claim_name(&theirs.claim(&keys[0], &request()).await), "done 1");
    assert!(theirs.forget(&done).await.unwrap());
}

#[tokio::test]
async fn a_read_only_replica_is_unavailable() {
    let primary = SERVER.start().await;
    let replica = SERVER.start().await;
    let store = connect(&replica.url()).await;
    replica.command::<()>(&["REPLICAOF", "127.0.0.1", &primary.port().to_string()]).await;
    assert_eq!(claim_name(&store.claim(&key("read-only"), &request()).await), "Unavailable");
    // Promoted, it serves at once.
    replica.command::<()>(&["REPLICAOF", "NO", "ONE"]).await;
    assert_eq!(claim_name(&store.claim(&key("read-only"), &request()).await), "claimed 1");
}

/// A demoted server keeps its connections. The proxy stands for an address that follows the primary.
#[tokio::test]
async fn a_connection_to_a_demoted_server_is_replaced() {
    let primary = SERVER.start().await;
    let replica = SERVER.start().await;
    let proxy = Proxy::start(replica.address()).await;
    let store = connect(&format!("redis://{}", proxy.address())).await;
    replica.command::<()>(&["REPLICAOF", "127.0.0.1", &primary.port().to_string()]).await;
    proxy.retarget(primary.address());
    assert_eq!(claim_name(&store.claim(&key("demoted"), &request()).await), "Unavailable");
    assert_eq!(claim_name(&store.claim(&key("demoted"), &request()).await), "claimed 1");
}

#[tokio::test]
async fn foreign_data_is_corrupt_and_stays() {
    let Fixture { server, ours, .. } = &Fixture::start().await;
    let values: [&[&str]; 4] = [&["SET"], &["SET"], &["RPUSH"], &["HSET"]];
    let rest: [&[&str]; 4] = [
        &[""],
        &["a value of somebody else that is as long as a record, and a little longer still"],
        &["x"],
        &["f", "v"],
    ];
    for (index, (command, rest)) in values.into_iter().zip(rest).enumerate() {
        let key = key(format!("foreign-{index}"));
        let name = raw(&key);
        let words: Vec<&str> = command.iter().copied().chain([name.as_str()]).chain(rest.iter().copied()).collect();
        let _: redis::Value = server.command(&words).await;
        assert_eq!(claim_name(&ours.claim(&key, &request()).await), "Corrupt", "{words:?}");
        assert_eq!(ours.inspect(&key).await.expect_err("corrupt").kind(), StoreErrorKind::Corrupt);
        let token = Token::new(request().nonce);
        for answer in [ours.renew(&key, &token, LEASE, TTL).await, ours.complete(&key, &token, &outcome(), TTL).await] {
            assert!(matches!(transition_name(&answer), "lost" | "corrupt"));
        }
        let exists: u32 = server.command(&["EXISTS", &name]).await;
        assert_eq!(exists, 1, "{words:?} was removed");
        assert!(ours.forget(&key).await.unwrap(), "an operator can remove it");
        claim(ours, &key).await;
    }
}

/// Flips every byte of running and of done records, of a first run and of a later one. Where the damage can be seen it is reported; where it cannot
/// (another nonce, another result) the record is taken for what it says, and never for a vacant key.
#[tokio::test]
async fn a_record_with_any_byte_flipped_never_grants_a_live_claim() {
    let Fixture { server, ours, theirs } = Fixture::start().await;
    let mut client = server.client().await;
    for (later, done) in [(false, false), (false, true), (true, false), (true, true)] {
        let key = key(format!("flipped-{later}-{done}"));
        let mut token = claim(&ours, &key).await;
        if later {
            let _ = abandon(&ours, &key, &token).await.unwrap();
            token = claim(&ours, &key).await;
            let _ = ours.append(&key, &token, &step("a", "1"), LEASE, TTL).await.unwrap();
        }
        if done {
            let _ = ours.complete(&key, &token, &outcome(), TTL).await.unwrap();
        }
        let good = bytes_of(&server, &key).await.expect("a record");
        for index in 0..good.len() {
            for flip in [0x01, 0x80, 0xFF] {
                let mut bad = good.clone();
                bad[index] ^= flip;
                redis::cmd("SET")
                    .arg(raw(&key))
                    .arg(&bad)
                    .arg("PX")
                    .arg(630_000)
                    .exec_async(&mut client)
                    .await
                    .unwrap();
                let refusing = request().with_take_over(TakeOver::Never);
                let answer = match theirs.claim(&key, &refusing).await {
                    // A damaged time to live moves the end of the lease, and a damaged result is a result.
                    Ok(idempotent_runtime::store::ClaimOutcome::Done(_)) => "done".to_owned(),
                    Ok(idempotent_runtime::store::ClaimOutcome::InFlight { .. }) => "in flight".to_owned(),
                    Ok(idempotent_runtime::store::ClaimOutcome::Abandoned { .. }) => "abandoned".to_owned(),
                    answer => claim_name(&answer),
                };
                let allowed: &[&str] = match (index, done) {
                    (0..4, _) => &["Corrupt"],
                    // Some flips of a state byte lead to another state's letter.
                    (4, _) => &["Corrupt", "done", "in flight", "abandoned"],
                    (42..74, _) => &["mismatch"],
                    (34..42, false) => &["Corrupt", "in flight", "abandoned"],
                    (_, false) => &["Corrupt", "in flight"],
                    (_, true) => &["Corrupt", "done"],
                };
                assert!(allowed.contains(&answer.as_str()), "byte {index} ^ {flip:#x}: {answer}");
            }
        }
    }
}

#[tokio::test]
async fn a_flushed_server_has_forgotten() {
    let Fixture { server, ours, theirs } = Fixture::start().await;
    let keys = ["complete", "release", "renew", "abandon"].map(key);
    let mut tokens = Vec::new();
    for key in &keys {
        tokens.push(claim(&ours, key).await);
    }
    server.command::<()>(&["FLUSHALL"]).await;
    server.command::<()>(&["SCRIPT", "FLUSH"]).await;
    assert_eq!(ours.complete(&keys[0], &tokens[0], &outcome(), TTL).await.unwrap(), Transition::Lost);
    assert_eq!(ours.release(&keys[1], &tokens[1], TTL).await.unwrap(), Transition::Applied);
    assert_eq!(ours.renew(&keys[2], &tokens[2], LEASE, TTL).await.unwrap(), Transition::Lost);
    assert_eq!(abandon(&ours, &keys[3], &tokens[3]).await.unwrap(), Transition::Lost);
    for key in &keys {
        assert_eq!(bytes_of(&server, key).await, None, "nothing comes back to life");
        claim(&theirs, key).await;
    }
}

#[tokio::test]
async fn a_durable_server_keeps_what_it_acknowledged_when_it_is_killed() {
    let mut fixture = Fixture::on(SERVER.start_durable().await).await;
    let (running, done, abandoned) = (key("running"), key("done"), key("abandoned"));
    let token = claim(&fixture.ours, &running).await;
    let fence = fixture.ours.fence(&running, &token).await.unwrap().expect("ours");
    let other = claim(&fixture.ours, &done).await;
    let _ = fixture.ours.complete(&done, &other, &outcome(), TTL).await.unwrap();
    let other = claim(&fixture.ours, &abandoned).await;
    let _ = abandon(&fixture.ours, &abandoned, &other).await.unwrap();
    fixture.server.restart().await;

    let store = &fixture.theirs;
    // The first call may meet the dead connection.
    wait_for("the store to be back", async || store.inspect(&done).await.is_ok()).await;
    assert_eq!(claim_name(&store.claim(&done, &request()).await), "done 1");
    assert_eq!(claim_name(&store.claim(&running, &request()).await), "in flight");
    assert_eq!(store.inspect(&abandoned).await.unwrap().expect("a record").state, State::Abandoned);
    assert_eq!(store.fence(&running, &token).await.unwrap(), Some(fence));
    assert_eq!(store.complete(&running, &token, &outcome(), TTL).await.unwrap(), Transition::Applied);
    let token = granted(store.claim(&abandoned, &request()).await);
    assert!(token.fence.is_some());
}

/// The rules in the module's documentation, word for word.
const PERMISSIONS: &str = "resetkeys resetchannels ~idempotent:* &idempotent:* -@all +hello +info +set +get +getrange \
     +setrange +del +pttl +pexpire +time +publish +subscribe +unsubscribe +evalsha +eval";

/// Gives a login these permissions and some more, and returns its URL.
pub(crate) async fn restricted(server: &RedisServer, more: &str) -> String {
    let rules = format!("ACL SETUSER app reset on >canary-password {PERMISSIONS} {more}");
    server.command::<()>(&rules.split_ascii_whitespace().collect::<Vec<_>>()).await;
    format!("redis://app:canary-password@{}", server.address())
}

#[tokio::test]
async fn the_documented_permissions_are_enough() {
    let server = SERVER.start().await;
    let url = restricted(&server, "").await;
    let (ours, theirs) = (connect(&url).await, connect(&url).await);
    let key = key("restricted");
    let token = claim(&ours, &key).await;
    let mut subscription = theirs.subscribe(&key).await.unwrap();
    assert_eq!(claim_name(&theirs.claim(&key, &request()).await), "in flight");
    assert!(ours.fence(&key, &token).await.unwrap().is_some());
    assert_eq!(ours.renew(&key, &token, LEASE, TTL).await.unwrap(), Transition::Applied);
    assert_eq!(ours.complete(&key, &token, &outcome(), TTL).await.unwrap(), Transition::Applied);
    tokio::time::timeout(Duration::from_secs(5), subscription.notified()).await.expect("a notification");
    assert!(theirs.inspect(&key).await.unwrap().is_some());
    assert!(theirs.forget(&key).await.unwrap());
    let token = claim(&ours, &key).await;
    assert_eq!(abandon(&ours, &key, &token).await.unwrap(), Transition::Applied);
    let token = granted(theirs.claim(&key, &request()).await);
    for (name, value) in [("a", "1"), ("b", "2")] {
        assert_eq!(theirs.append(&key, &token, &step(name, value), LEASE, TTL).await.unwrap(), Appended::Applied);
    }
    assert_eq!(theirs.steps(&key, &token).await.unwrap(), Some(vec![step("a", "1"), step("b", "2")]));
    assert_eq!(theirs.release(&key, &token, TTL).await.unwrap(), Transition::Applied);
    let token = granted(theirs.claim(&key, &request()).await);
    assert_eq!(theirs.complete(&key, &token, &outcome(), TTL).await.unwrap(), Transition::Applied);
    assert!(theirs.forget(&key).await.unwrap());
    let token = claim(&ours, &key).await;
    assert_eq!(theirs.release(&key, &token, TTL).await.unwrap(), Transition::Applied);
    // Listings need one more.
    assert_eq!(ours.list(None, None, 10).await.expect_err("no permission").kind(), StoreErrorKind::Refused);
    restricted(&server, "+scan").await;
    let store = connect(&url).await;
    assert!(store.list(None, None, 10).await.unwrap().records.is_empty());
    // Nothing else is used: the server would have logged it.
    let denied: Vec<redis::Value> = server.command(&["ACL", "LOG"]).await;
    let reasons = format!("{denied:?}");
    assert!(!reasons.contains("canary") && !reasons.contains("channel"), "{reasons}");
}

#[tokio::test]
async fn missing_permissions_and_wrong_credentials_are_refused_without_secrets() {
    let server = SERVER.start().await;
    let url = restricted(&server, "").await;
    let wrong = url.replace("canary-password", "canary-wrong");
    let error = builder().connect(&wrong).await.expect_err("wrong password");
    assert_eq!(kind(&error), StoreErrorKind::Refused);
    assert!(!full_text(&error).contains("canary"), "{error:?}");

    // Without INFO the server cannot be checked.
    restricted(&server, "-info").await;
    let error = builder().connect(&url).await.expect_err("no INFO");
    assert_eq!(kind(&error), StoreErrorKind::Refused);
    let store = builder().allow_eviction(true).connect(&url).await.expect("eviction is accepted");
    assert!(!format!("{store:?}").contains("canary"));

    // Without the channels a subscription is silent, and nothing else suffers.
    restricted(&server, "resetchannels").await;
    let store = connect(&url).await;
    let key = key("canary-key");
    let token = claim(&store, &key).await;
    let mut subscription = store.subscribe(&key).await.expect("a silent subscription");
    assert_eq!(claim_name(&store.claim(&key, &request()).await), "in flight");
    let silent = tokio::time::timeout(Duration::from_millis(50), subscription.notified()).await;
    assert!(silent.is_err());

    // Without the keys nothing goes.
    restricted(&server, "resetkeys").await;
    let store = connect(&url).await;
    let error = store.release(&key, &token, TTL).await.expect_err("no keys");
    assert_eq!(error.kind(), StoreErrorKind::Refused);
    assert!(!full_text(&error).contains("canary"), "{error:?}");
}

#[test]
fn a_store_outlives_the_runtime_that_made_it() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let first = runtime();
    let (server, store) = first.block_on(async {
        let server = SERVER.start().await;
        let store = connect(&server.url()).await;
        let key = key("first");
        claim(&store, &key).await;
        drop(store.subscribe(&key).await.unwrap());
        (server, store)
    });
    drop(first);
    runtime().block_on(async {
        let key = key("second");
        let token = claim(&store, &key).await;
        let mut subscription = store.subscribe(&key).await.unwrap();
        let _ = connect(&server.url()).await.complete(&key, &token, &outcome(), TTL).await.unwrap();
        tokio::time::timeout(Duration::from_secs(5), subscription.notified()).await.expect("a notification");
    });
}
