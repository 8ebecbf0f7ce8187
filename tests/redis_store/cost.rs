//! Checks the cost of a call for the server: commands and round trips, counted by the server itself.

use std::collections::BTreeMap;

use idempotent_runtime::{
    Disposition, Error, Idempotency, Store, idempotent,
    store::{Appended, Token, redis::RedisStore},
    with_disposition,
};

use crate::{
    SERVER,
    redis_server::{RedisProgram, RedisServer},
    support::{Fixture, LEASE, TTL, claim, claim_name, granted, key, outcome, request, step},
};

/// The commands that a step makes the server run. Those inside scripts are counted too.
pub(crate) async fn commands(server: &RedisServer, step: impl AsyncFnOnce()) -> BTreeMap<String, u64> {
    server.command::<()>(&["CONFIG", "RESETSTAT"]).await;
    step().await;
    let stats: String = server.command(&["INFO", "commandstats"]).await;
    let calls = stats.lines().filter_map(|line| {
        let (name, rest) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
        Some((name.to_owned(), rest.split_once(',')?.0.parse().expect("a number")))
    });
    // The measurement's own.
    let own =
        |name: &str| name.starts_with("config|") || name.starts_with("client|") || matches!(name, "hello" | "info");
    calls.filter(|(name, _)| !own(name)).collect()
}

pub(crate) fn counts<const N: usize>(counts: [(&str, u64); N]) -> BTreeMap<String, u64> {
    counts.into_iter().map(|(name, count)| (name.to_owned(), count)).collect()
}

/// The commands of a first run. Inside the script, the header is read and the record written; a server that compares values
/// needs none.
fn miss() -> BTreeMap<String, u64> {
    match SERVER {
        RedisProgram::Redis => counts([("set", 2), ("evalsha", 1), ("getrange", 1)]),
        RedisProgram::Valkey => counts([("set", 2)]),
    }
}

async fn run_once(store: &RedisStore, name: &str) {
    let key = key(name);
    let token = claim(store, &key).await;
    let _ = store.complete(&key, &token, &outcome(), TTL).await.unwrap();
}

#[tokio::test]
async fn a_hit_is_one_command_and_a_miss_is_two() {
    let Fixture { server, ours, theirs } = Fixture::start().await;
    run_once(&ours, "warm").await;

    let miss = commands(&server, async || run_once(&ours, "once").await).await;
    assert_eq!(miss, self::miss());

    let hit = commands(&server, async || {
        assert_eq!(claim_name(&theirs.claim(&key("once"), &request()).await), "done 1");
    });
    assert_eq!(hit.await, counts([("set", 1)]));
}

#[tokio::test]
async fn a_step_is_one_request() {
    let Fixture { server, ours, theirs } = Fixture::start().await;
    let append = async |name: &str, token: &Token, number: &str| {
        let answer = ours.append(&key(name), token, &step(number, "1"), LEASE, TTL).await;
        assert_eq!(answer.unwrap(), Appended::Applied);
    };
    append("warm", &claim(&ours, &key("warm")).await, "1").await;
    let token = claim(&ours, &key("steps")).await;
    let first = commands(&server, async || append("steps", &token, "1").await).await;
    assert_eq!(first, counts([("evalsha", 1), ("get", 1), ("set", 1)]));
    // A later one is written behind what is there.
    let second = commands(&server, async || append("steps", &token, "2").await).await;
    assert_eq!(second, counts([("evalsha", 1), ("get", 1), ("setrange", 1), ("pexpire", 1)]));
    assert_eq!(theirs.steps(&key("steps"), &token).await.unwrap().map(|steps| steps.len()), Some(2));
}

#[tokio::test]
async fn a_script_is_sent_in_full_once() {
    let Fixture { server, ours, theirs } = Fixture::start().await;
    let (key, token) = (key("fenced"), claim(&ours, &key("fenced")).await);
    let fenced = async |store: &RedisStore| assert!(store.fence(&key, &token).await.unwrap().is_some());
    let first = commands(&server, async || fenced(&ours).await).await;
    assert_eq!((first.get("evalsha"), first.get("eval")), (Some(&1), Some(&1)));
    let second = commands(&server, async || fenced(&theirs).await).await;
    assert_eq!((second.get("evalsha"), second.get("eval")), (Some(&1), None));
}

#[tokio::test]
async fn the_cost_does_not_grow_with_the_number_of_records() {
    let server = SERVER.start_with(&["--enable-debug-command", "local"]).await;
    let Fixture { server, ours, theirs } = Fixture::on(server).await;
    run_once(&ours, "warm").await;
    server.command::<()>(&["DEBUG", "POPULATE", "100000", "idempotent:filler", "100"]).await;
    let miss = commands(&server, async || run_once(&ours, "once").await).await;
    assert_eq!(miss, self::miss());
    let takeover = commands(&server, async || {
        let key = key("taken");
        claim(&ours, &key).await;
        crate::support::lapse(&server, &key).await;
        granted(theirs.claim(&key, &request()).await);
    });
    let takeover = takeover.await;
    assert!(!takeover.contains_key("scan") && !takeover.contains_key("keys"), "{takeover:?}");
}

#[idempotent(key = order, name = "tests.charge", store = handle, skip(handle))]
async fn charge(handle: &Idempotency, order: &str, amount_cents: u64) -> Result<u64, Error> {
    Ok(amount_cents)
}

#[tokio::test]
async fn an_annotated_call_that_repeats_costs_one_command() {
    let Fixture { server, ours, theirs } = Fixture::start().await;
    let (first, second) = (Idempotency::new(ours), Idempotency::new(theirs));
    charge(&first, "warm", 1).await.unwrap();

    let miss = commands(&server, async || assert_eq!(charge(&first, "order-17", 4_200).await.unwrap(), 4_200)).await;
    assert_eq!(miss, self::miss());

    let hit = commands(&server, async || {
        let (answer, disposition) = with_disposition(charge(&second, "order-17", 4_200)).await;
        assert_eq!((answer.unwrap(), disposition), (4_200, Disposition::Replayed));
    });
    assert_eq!(hit.await, counts([("set", 1)]));

    let mismatch = commands(&server, async || {
        assert!(matches!(charge(&second, "order-17", 9_999).await, Err(Error::Mismatch { .. })));
    });
    assert_eq!(mismatch.await, counts([("set", 1)]));
}

#[tokio::test]
async fn recorded_arguments_cost_bytes_and_not_commands() {
    let Fixture { server, ours, theirs } = Fixture::start().await;
    let recording = |store| Idempotency::builder().record_arguments(true).build(store);
    let (first, second) = (recording(ours), recording(theirs));
    charge(&first, "warm", 1).await.unwrap();

    let miss = commands(&server, async || assert_eq!(charge(&first, "order-17", 4_200).await.unwrap(), 4_200)).await;
    let mut expected = self::miss();
    if SERVER == RedisProgram::Redis {
        // Inside the script: the arguments are read along.
        expected.insert("getrange".to_owned(), 2);
    }
    assert_eq!(miss, expected);
    let hit = commands(&server, async || assert_eq!(charge(&second, "order-17", 4_200).await.unwrap(), 4_200)).await;
    assert_eq!(hit, counts([("set", 1)]));

    charge(&second, "order-17", 1).await.unwrap_err();
    let mismatch = commands(&server, async || match charge(&second, "order-17", 9_999).await {
        Err(Error::Mismatch { arguments, .. }) => assert_eq!(*arguments, ["amount_cents"]),
        other => panic!("not a mismatch: {other:?}"),
    });
    assert_eq!(mismatch.await, counts([("set", 1), ("evalsha", 1), ("get", 1), ("pttl", 1), ("time", 1)]));
}

#[tokio::test]
async fn concurrent_duplicates_in_one_process_cost_what_one_call_costs() {
    let Fixture { server, ours, theirs } = Fixture::start().await;
    let (first, second) = (Idempotency::new(ours), Idempotency::new(theirs));
    charge(&first, "order-17", 4_200).await.unwrap();
    let hits = commands(&server, async || {
        let mut calls = tokio::task::JoinSet::new();
        for _ in 0..100 {
            let handle = second.clone();
            calls.spawn(async move { charge(&handle, "order-17", 4_200).await.unwrap() });
        }
        assert_eq!(calls.join_all().await, [4_200; 100]);
    });
    assert_eq!(hits.await, counts([("set", 1)]));
}

#[tokio::test]
async fn a_hit_in_the_local_cache_costs_nothing() {
    let Fixture { server, ours, theirs } = Fixture::start().await;
    let caching = |store| Idempotency::builder().local_cache(1 << 20).build(store);
    let (first, second) = (caching(ours), caching(theirs));
    charge(&first, "warm", 1).await.unwrap();
    let miss = commands(&server, async || assert_eq!(charge(&first, "order-17", 4_200).await.unwrap(), 4_200)).await;
    assert_eq!(miss, self::miss());
    // What another has run is looked up once.
    let first_repeat = commands(&server, async || assert_eq!(charge(&second, "order-17", 4_200).await.unwrap(), 4_200));
    assert_eq!(first_repeat.await.get("set"), Some(&1));

    let hits = commands(&server, async || {
        for handle in [&first, &second] {
            for _ in 0..100 {
                let (answer, disposition) = with_disposition(charge(handle, "order-17", 4_200)).await;
                assert_eq!((answer.unwrap(), disposition), (4_200, Disposition::Replayed));
                assert!(matches!(charge(handle, "order-17", 9_999).await, Err(Error::Mismatch { .. })));
            }
        }
    });
    assert_eq!(hits.await, counts([]));

    // Asked again after it was forgotten, here at once.
    assert!(first.forget("tests.charge", "order-17").await.unwrap());
    assert_eq!(charge(&first, "order-17", 9_999).await.unwrap(), 9_999);
}
