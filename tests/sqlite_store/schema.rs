//! Migrations, settings, and what is in the tables.

use idempotent_runtime::{
    Idempotency, Store, StoreErrorKind,
    store::{ClaimOutcome, Nonce, State, Token, sqlite::SqliteStore},
};
use sqlx::{
    Connection as _, Row as _,
    sqlite::{SqliteJournalMode, SqliteSynchronous},
};
use tokio::task::JoinSet;

use crate::{
    sqlite_file::SqliteFile,
    support::{
        ARGUMENTS, RESULT, TTL, claim, connect, fault, finish, is_done, key, kind, recording, request, version_1,
    },
    wait_for,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_migrate_at_once() {
    for _ in 0..5 {
        let file = SqliteFile::new();
        let mut stores = JoinSet::new();
        for number in 0..16 {
            let url = file.url();
            stores.spawn(async move {
                let store = SqliteStore::connect(&url).await.expect("a store");
                store.migrate().await.expect("a repeated migration");
                finish(&store, &key(number)).await;
            });
        }
        stores.join_all().await;
        let store = connect(&file).await;
        for number in 0..16 {
            assert!(is_done(&store, &key(number)).await);
        }
        let versions = sqlx::query("SELECT version FROM idempotent_records_schema");
        assert_eq!(versions.fetch_all(&mut file.connection().await).await.expect("rows").len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_upgrade_an_older_schema_at_once() {
    let file = SqliteFile::new();
    version_1(&file).await;
    let old = SqliteStore::new(file.pool(|options| options));
    assert_eq!(fault(&old, &key("done")).await, StoreErrorKind::Refused, "not migrated yet");
    let mut stores = JoinSet::new();
    for number in 0..16 {
        let url = file.url();
        stores.spawn(async move {
            let store = SqliteStore::connect(&url).await.expect("a store");
            assert!(is_done(&store, &key("done")).await, "{number}: an old record is replayed");
            finish(&store, &key(number)).await;
        });
    }
    stores.join_all().await;
    let versions = sqlx::query_scalar::<_, i64>("SELECT version FROM idempotent_records_schema");
    assert_eq!(versions.fetch_all(&mut file.connection().await).await.expect("rows"), [6]);
    assert!(is_done(&old, &key("done")).await, "a store that was there before goes on");

    let store = connect(&file).await;
    for (name, state) in [("abandoned", State::Abandoned), ("lapsed", State::Lapsed)] {
        let record = store.inspect(&key(name)).await.expect("an answer").expect("a record");
        assert_eq!((record.state, record.arguments), (state, None), "{name}");
        match store.claim(&key(name), &recording()).await.expect("an answer") {
            ClaimOutcome::Claimed { token, attempt, .. } => {
                assert_eq!(attempt, 2);
                assert!(token.fence > Some(if name == "lapsed" { 1 << 60 } else { 6 }));
            }
            other => panic!("not granted: {other:?}"),
        }
        let record = store.inspect(&key(name)).await.expect("an answer").expect("a record");
        assert_eq!(record.arguments, recording().arguments, "{name}");
    }
    let owner = Token::new(Nonce::from_bytes([1; 16]));
    assert_eq!(store.fence(&key("running"), &owner).await.expect("an answer"), Some(7));
    assert_eq!(store.list(None, None, 100).await.expect("a page").records.len(), 20);
}

#[tokio::test]
async fn a_newer_schema_is_refused() {
    let file = SqliteFile::new();
    drop(connect(&file).await);
    file.execute("UPDATE idempotent_records_schema SET version = 7").await;
    let error = SqliteStore::connect(&file.url()).await.expect_err("too new");
    assert_eq!(kind(&error), StoreErrorKind::Refused);
    let store = SqliteStore::new(file.pool(|options| options));
    assert_eq!(fault(&store, &key("k")).await, StoreErrorKind::Refused);
}

#[tokio::test]
async fn a_pool_is_used_as_it_is_or_refused() {
    let file = SqliteFile::new();
    let store = SqliteStore::new(file.pool(|options| options));
    assert_eq!(fault(&store, &key("no-schema")).await, StoreErrorKind::Refused);
    store.migrate().await.expect("a migration");
    finish(&store, &key("k")).await;

    let normal = SqliteStore::new(file.pool(|options| options.synchronous(SqliteSynchronous::Normal)));
    assert_eq!(fault(&normal, &key("k")).await, StoreErrorKind::Refused);
    assert_eq!(kind(&normal.migrate().await.expect_err("not durable")), StoreErrorKind::Refused);

    let other = SqliteFile::new();
    let rollback = SqliteStore::new(other.pool(|options| options.journal_mode(SqliteJournalMode::Delete)));
    assert_eq!(kind(&rollback.migrate().await.expect_err("no WAL")), StoreErrorKind::Refused);

    let memory = SqliteStore::new(file.pool(|options| options.in_memory(true)));
    assert_eq!(kind(&memory.migrate().await.expect_err("in memory")), StoreErrorKind::Refused);
}

#[tokio::test]
async fn two_tables_of_a_file_are_two_stores() {
    let file = SqliteFile::new();
    let first = connect(&file).await;
    let second = SqliteStore::builder().table("others").connect(&file.url()).await.expect("a store");
    finish(&first, &key("k")).await;
    assert!(second.inspect(&key("k")).await.expect("an answer").is_none());
    finish(&second, &key("k")).await;
    assert!(second.forget(&key("k")).await.expect("forget"));
    assert!(is_done(&first, &key("k")).await);
}

#[tokio::test]
async fn people_can_read_the_view() {
    let file = SqliteFile::new();
    let store = connect(&file).await;
    let recorded = store.claim(&key("running"), &recording()).await.expect("an answer");
    assert!(matches!(recorded, ClaimOutcome::Claimed { .. }));
    let arguments = "SELECT arguments FROM idempotent_records_view WHERE key = 'canary-running'";
    let arguments: String = sqlx::query_scalar(arguments).fetch_one(&mut file.connection().await).await.expect("a row");
    assert_eq!(arguments, ARGUMENTS);
    finish(&store, &key("k")).await;
    let row = sqlx::query("SELECT state, result, completed_at FROM idempotent_records_view WHERE key = 'canary-k'")
        .fetch_one(&mut file.connection().await)
        .await
        .expect("a row");
    assert_eq!((row.get::<&str, _>(0), row.get::<&str, _>(1)), ("ok", RESULT));
    assert!(row.get::<&str, _>(2).starts_with("20"));
    let running = "SELECT completed_at IS NULL FROM idempotent_records_view WHERE key = 'canary-running'";
    let is_open: bool = sqlx::query_scalar(running).fetch_one(&mut file.connection().await).await.expect("a row");
    assert!(is_open, "it has no time at which it ended");
}

/// Whatever the clock says: records of a clock that was far ahead are gone.
#[tokio::test]
async fn fences_rise_although_records_go_and_the_clock_goes_back() {
    let file = SqliteFile::new();
    let store = connect(&file).await;
    let mut last = 0;
    for (round, gone) in ["release", "forget", "purge", "expiry", "takeover"].into_iter().enumerate() {
        let token = claim(&store, &key("k")).await;
        assert!(token.fence.is_some_and(|fence| fence > last), "after round {round}: {:?}", token.fence);
        last = (1 << 60) + u64::try_from(round).expect("small");
        file.execute(&format!("UPDATE idempotent_records SET fence = {last}")).await;
        match gone {
            "release" => drop(store.release(&key("k"), &token, TTL).await.expect("release")),
            "forget" => assert!(store.forget(&key("k")).await.expect("forget")),
            "takeover" => file.execute("UPDATE idempotent_records SET lease_until = 0").await,
            _ => file.execute("UPDATE idempotent_records SET expires_at = 0").await,
        }
        if gone == "purge" {
            assert_eq!(store.purge_expired(10).await.expect("purge"), 1);
        }
    }
    assert!(claim(&store, &key("k")).await.fence.is_some_and(|fence| fence > last));
}

#[tokio::test]
async fn every_damaged_column_is_noticed() {
    let file = SqliteFile::new();
    let store = connect(&file).await;
    let damages = [
        "state = 'other'",
        "state = 'running'",
        "state = 'not-kept'",
        "fingerprint = x'00'",
        "nonce = zeroblob(17)",
        "fence = -1",
        "attempt = 0",
        "attempt = 1 << 40",
        "lease_until = 1",
        "result = NULL",
        "reason = 'too-large'",
    ];
    for (number, damage) in damages.into_iter().enumerate() {
        let key = key(number);
        finish(&store, &key).await;
        let sql = format!("UPDATE idempotent_records SET {damage} WHERE key = 'canary-{number}'");
        file.execute(&sql).await;
        assert_eq!(fault(&store, &key).await, StoreErrorKind::Corrupt, "{damage}");
        let page = store.list(None, None, 1000).await.expect("a page");
        assert!(page.records.is_empty(), "{damage} is listed");
        assert!(store.forget(&key).await.expect("forget"), "an operator can remove it");
    }
}

#[tokio::test]
async fn a_sweeper_removes_what_has_expired() {
    let file = SqliteFile::new();
    let store = connect(&file).await;
    for number in 0..600 {
        claim(&store, &key(number)).await;
    }
    file.execute("UPDATE idempotent_records SET expires_at = 0 WHERE key <> 'canary-7'").await;
    let sweeper = Idempotency::new(store).spawn_sweeper(std::time::Duration::from_millis(10));
    let mut connection = file.connection().await;
    wait_for("the sweep", async || {
        let mut connection = file.connection().await;
        let count: i64 = sqlx::query_scalar("SELECT count(*) FROM idempotent_records")
            .fetch_one(&mut connection)
            .await
            .expect("a count");
        connection.close().await.expect("the end");
        count == 1
    })
    .await;
    drop(sweeper);
    let kept: String =
        sqlx::query_scalar("SELECT key FROM idempotent_records").fetch_one(&mut connection).await.expect("a row");
    assert_eq!(kept, "canary-7");
}

/// Nobody has started a sweeper.
#[tokio::test]
async fn expired_records_go_by_themselves() {
    let file = SqliteFile::new();
    let builder = || SqliteStore::builder().sweep_interval(std::time::Duration::from_millis(50));
    let never = builder().sweep_interval(std::time::Duration::MAX).connect(&file.url()).await.expect("a store");
    let store = builder().connect(&file.url()).await.expect("a store");
    let count = async || {
        let mut connection = file.connection().await;
        let count: sqlx::Result<i64> =
            sqlx::query_scalar("SELECT count(*) FROM idempotent_records").fetch_one(&mut connection).await;
        connection.close().await.expect("the end");
        count.expect("a count")
    };
    for round in 0..2 {
        for number in 0..300 {
            claim(&never, &key(format_args!("{round}-{number}"))).await;
        }
        file.execute("UPDATE idempotent_records SET expires_at = 0").await;
        claim(&never, &key("never")).await;
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        assert!(count().await > 300);
        // A hit adds no row, and a claim does.
        claim(&store, &key(round)).await;
        wait_for("the sweep", async || count().await == 2).await;
        assert!(never.forget(&key("never")).await.expect("forget"));
        assert!(never.forget(&key(round)).await.expect("forget"));
    }
}

/// A claim that finds an expired record keeps nothing of it.
#[tokio::test]
async fn an_expired_record_leaves_nothing_behind() {
    let file = SqliteFile::new();
    let store = connect(&file).await;
    finish(&store, &key("k")).await;
    file.execute("UPDATE idempotent_records SET expires_at = 0, attempt = 9").await;
    let token = claim(&store, &key("k")).await;
    let record = store.inspect(&key("k")).await.expect("an answer").expect("a record");
    assert_eq!(record.attempt, 1);
    let applied = store.renew(&key("k"), &token, request().lease, TTL).await.expect("renew");
    assert_eq!(applied, idempotent_runtime::store::Transition::Applied);
}
