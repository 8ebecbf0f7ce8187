//! Locks that others hold, a full disk, a file that goes away.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use idempotent_runtime::{
    Error, Idempotency, Outcome, SetupError, Store, StoreErrorKind,
    store::{Suspension, Transition, sqlite::SqliteStore},
};
use sqlx::sqlite::SqlitePoolOptions;
use tokio::{
    task::JoinSet,
    time::{Instant, timeout},
};

use crate::{
    sqlite_file::SqliteFile,
    support::{
        LEASE, TTL, abandon, assert_says_causes_once, claim, connect, fault, finish, granted, is_done, key, request,
    },
};

#[tokio::test]
async fn hits_do_not_wait_for_a_writer_and_misses_do() {
    let file = SqliteFile::new();
    let store = connect(&file).await;
    finish(&store, &key("done")).await;
    let running = claim(&store, &key("running")).await;

    let mut writer = file.connection().await;
    sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut writer).await.expect("the lock");
    // The default timeout is 5 s, so that a hit that waited would not be back in one.
    let hit = timeout(Duration::from_secs(1), is_done(&store, &key("done"))).await;
    assert!(hit.expect("a hit waits for nobody"));
    let in_flight = timeout(Duration::from_secs(1), store.claim(&key("running"), &request())).await;
    in_flight.expect("a running key is told at once").expect("an answer");

    let (vacant, outcome, ours) = (key("vacant"), Outcome::Ok(Bytes::new()), request());
    let miss = store.claim(&vacant, &ours);
    let completion = async {
        let key = key("running");
        store.complete(&key, &running, &outcome, TTL).await
    };
    let (mut miss, mut completion) = (std::pin::pin!(miss), std::pin::pin!(completion));
    let both = async { tokio::join!(&mut miss, &mut completion) };
    assert!(timeout(Duration::from_millis(100), both).await.is_err(), "a writer that is not alone");
    // From here on only one of them is polled, while the other may have been first in the queue.
    sqlx::raw_sql("COMMIT").execute(&mut writer).await.expect("the end of the lock");
    let freed = Instant::now();
    granted(miss.await);
    assert_eq!(completion.await.expect("complete"), Transition::Applied);
    assert!(freed.elapsed() < Duration::from_secs(1), "the lock was free for {:?}", freed.elapsed());
}

#[tokio::test]
async fn a_lock_that_is_held_for_too_long_is_an_error() {
    let file = SqliteFile::new();
    let patience = Duration::from_millis(100);
    let store = SqliteStore::builder().busy_timeout(patience).connect(&file.url()).await.expect("a store");
    let mut writer = file.connection().await;
    sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut writer).await.expect("the lock");
    let asked = Instant::now();
    assert_eq!(fault(&store, &key("k")).await, StoreErrorKind::Unavailable);
    assert!(asked.elapsed() < patience * 10, "after {:?}", asked.elapsed());
    // Those that queue behind it do not add their waits up.
    let asked = Instant::now();
    let mut all = JoinSet::new();
    let store = Arc::new(store);
    for number in 0..20 {
        let store = Arc::clone(&store);
        all.spawn(async move { fault(&store, &key(number)).await });
    }
    let kinds = all.join_all().await;
    assert!(kinds.iter().all(|kind| *kind == StoreErrorKind::Unavailable));
    assert!(asked.elapsed() < patience * 10, "after {:?}", asked.elapsed());
    sqlx::raw_sql("ROLLBACK").execute(&mut writer).await.expect("the end of the lock");
    claim(&store, &key("k")).await;
}

#[tokio::test]
async fn a_full_disk_refuses_claims_and_still_replays() {
    let file = SqliteFile::new();
    let store = SqliteStore::new(file.pool(|options| options.pragma("max_page_count", "60")));
    store.migrate().await.expect("a migration");
    finish(&store, &key("done")).await;
    let held = claim(&store, &key("held")).await;
    let mut claims = 0;
    let full = loop {
        match store.claim(&key(claims), &request()).await {
            Ok(_) => claims += 1,
            Err(error) => break error,
        }
        assert!(claims < 10_000, "the file does not become full");
    };
    assert_eq!(full.kind(), StoreErrorKind::Full);
    assert!(full.is_retryable());
    assert!(is_done(&store, &key("done")).await);

    // An end that does not fit changes nothing, and can be asked again when there is room.
    let large = Outcome::Ok(Bytes::from(vec![b'0'; 100_000]));
    let error = store.complete(&key("held"), &held, &large, TTL).await.expect_err("no room");
    assert_eq!(error.kind(), StoreErrorKind::Full);
    for number in 0..claims {
        assert!(store.forget(&key(number)).await.expect("forget"));
    }
    assert_eq!(store.complete(&key("held"), &held, &large, TTL).await.expect("room"), Transition::Applied);
    claim(&store, &key("new")).await;
}

#[cfg(unix)]
#[tokio::test]
async fn a_file_that_is_deleted_or_replaced_is_not_used_any_more() {
    for replaced in [false, true] {
        let file = SqliteFile::new();
        let store = connect(&file).await;
        finish(&store, &key("done")).await;
        let held = claim(&store, &key("held")).await;
        for suffix in ["", "-wal", "-shm"] {
            std::fs::remove_file(format!("{}{suffix}", file.path().display())).expect("a file to delete");
        }
        if replaced {
            drop(connect(&file).await);
        }
        assert_eq!(fault(&store, &key("vacant")).await, StoreErrorKind::Refused);
        assert_eq!(fault(&store, &key("done")).await, StoreErrorKind::Refused);
        let end = store.complete(&key("held"), &held, &Outcome::Ok(Bytes::new()), TTL).await;
        assert_eq!(end.expect_err("no record").kind(), StoreErrorKind::Refused);
        let idempotency = Idempotency::new(store);
        let call = idempotency.call("tests.operation").key("k").run(async { panic!("the body runs") });
        assert!(matches!(Box::pin(call).await, Err::<(), _>(Error::Store(_))));
    }
}

#[tokio::test]
async fn what_is_no_database_is_refused() {
    let file = SqliteFile::new();
    std::fs::write(file.path(), vec![b'x'; 8192]).expect("a file");
    let error = SqliteStore::connect(&file.url()).await.expect_err("not a database");
    assert!(matches!(&error, SetupError::Store(fault) if fault.kind() == StoreErrorKind::Corrupt), "{error:?}");
    let missing = SqliteStore::connect("sqlite:///no/such/folder/records.db").await.expect_err("no folder");
    let SetupError::Store(missing) = missing else { panic!("not the store's: {missing:?}") };
    assert_eq!(missing.kind(), StoreErrorKind::Refused);
    assert!(missing.to_string().contains("folder"), "{missing}");
}

#[tokio::test]
async fn an_error_of_connect_says_its_causes_once() {
    let file = SqliteFile::new();
    std::fs::write(file.path(), vec![b'x'; 8192]).expect("a file");
    let unknown_mode = format!("{}?mode=none", file.url());
    for url in [&file.url(), "sqlite:///no/such/folder/records.db", &unknown_mode] {
        assert_says_causes_once(&SqliteStore::connect(url).await.expect_err(url));
    }
}

#[tokio::test]
async fn a_file_that_may_not_be_written_is_refused() {
    let file = SqliteFile::new();
    finish(&connect(&file).await, &key("done")).await;
    let store = SqliteStore::new(file.pool(|options| options.read_only(true)));
    let error = store.claim(&key("new"), &request()).await.expect_err("it cannot be written");
    assert_eq!(error.kind(), StoreErrorKind::Refused, "{error:?}");
    assert!(error.to_string().contains("write"), "{error}");
}

/// The application's bodies have the whole pool for longer than a lease.
#[tokio::test]
async fn owners_do_not_wait_for_the_pool() {
    let file = SqliteFile::new();
    let pool = SqlitePoolOptions::new().max_connections(1).connect_with(file.options()).await.expect("a pool");
    let store = SqliteStore::new(pool.clone());
    store.migrate().await.expect("a migration");
    let (names, mut tokens) = (["complete", "release", "abandon"], Vec::new());
    for name in names {
        tokens.push(claim(&store, &key(name)).await);
    }
    let _held = pool.acquire().await.expect("the connection");
    let asked = Instant::now();
    for (name, token) in names.iter().zip(&tokens) {
        assert_eq!(store.renew(&key(name), token, LEASE, TTL).await.expect("renew"), Transition::Applied);
    }
    let ends = [
        store.complete(&key(names[0]), &tokens[0], &Outcome::Ok(Bytes::new()), TTL).await,
        store.release(&key(names[1]), &tokens[1], TTL).await,
    ];
    for end in ends {
        assert_eq!(end.expect("an end"), Transition::Applied);
    }
    let suspended = abandon(&store, &key(names[2]), &tokens[2]).await;
    assert_eq!(suspended.expect("an end"), Suspension::Applied);
    assert!(asked.elapsed() < Duration::from_secs(2), "took {:?}", asked.elapsed());
}

#[tokio::test]
async fn a_wait_may_be_for_ever() {
    let file = SqliteFile::new();
    let builder = SqliteStore::builder().busy_timeout(Duration::MAX);
    let store = builder.clone().connect(&file.url()).await.expect("a store");
    finish(&store, &key("connected")).await;
    let store = builder.build(file.pool(|options| options)).expect("a store");
    finish(&store, &key("built")).await;
}
