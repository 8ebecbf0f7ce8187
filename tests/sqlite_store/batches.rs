//! Writes that are pending together share a commit, and nothing else.

use std::sync::Arc;

use bytes::Bytes;
use idempotent_runtime::{
    Store, StoreErrorKind,
    store::{ClaimOutcome, StoreResult, Suspension, Transition, sqlite::SqliteStore},
};
use tokio::task::JoinSet;

use crate::{
    sqlite_file::SqliteFile,
    support::{TTL, abandon, connect, granted, is_done, key, outcome, request},
};

const CALLS: usize = 200;

/// Claims that many keys at once.
async fn claim_all(store: &Arc<SqliteStore>) -> Vec<(usize, StoreResult<ClaimOutcome>)> {
    claim_all_with(store, None).await
}

async fn claim_all_with(store: &Arc<SqliteStore>, arguments: Option<Bytes>) -> Vec<(usize, StoreResult<ClaimOutcome>)> {
    let mut claims = JoinSet::new();
    for number in 0..CALLS {
        let (store, request) = (Arc::clone(store), request().with_arguments(arguments.clone()));
        claims.spawn(async move { (number, store.claim(&key(number), &request).await) });
    }
    claims.join_all().await
}

#[tokio::test(flavor = "multi_thread")]
async fn each_of_many_at_once_is_answered_for_itself() {
    let file = SqliteFile::new();
    let store = Arc::new(connect(&file).await);
    let claimed = claim_all(&store).await;
    let mut ends = JoinSet::new();
    for (number, answer) in claimed {
        let (store, token) = (Arc::clone(&store), granted(answer));
        ends.spawn(async move { store.complete(&key(number), &token, &outcome(), TTL).await });
    }
    for end in ends.join_all().await {
        assert_eq!(end.expect("an answer"), Transition::Applied);
    }
    for number in 0..CALLS {
        assert!(is_done(&*store, &key(number)).await);
    }
}

/// A trigger refuses one key in ten: with its statement, or with the whole transaction, which SQLite then ends by itself.
#[tokio::test(flavor = "multi_thread")]
async fn one_that_fails_fails_no_other() {
    for how in ["ABORT", "ROLLBACK"] {
        let file = SqliteFile::new();
        let store = Arc::new(connect(&file).await);
        let held = granted(store.claim(&key("held"), &request()).await);
        let refuse = format!(
            "CREATE TRIGGER refusing BEFORE INSERT ON idempotent_records WHEN NEW.key LIKE '%5'
             BEGIN SELECT RAISE({how}, 'as planned'); END"
        );
        file.execute(&refuse).await;
        for (number, answer) in claim_all(&store).await {
            assert_eq!(answer.is_err(), number % 10 == 5, "{how}, {number}: {answer:?}");
        }
        let records = store.list(None, None, 1000).await.expect("a page").records;
        assert_eq!(records.len(), 1 + CALLS * 9 / 10);
        // What is written in several statements begins a transaction, on the same connection.
        let released = store.release(&key("held"), &held, TTL).await;
        assert_eq!(released.expect("an answer"), Transition::Applied, "{how}");
    }
}

/// The callers of half of the claims leave before they are answered.
#[tokio::test(flavor = "multi_thread")]
async fn callers_that_leave_take_nobody_along() {
    let file = SqliteFile::new();
    let store = Arc::new(connect(&file).await);
    let mut writer = file.connection().await;
    sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut writer).await.expect("the lock");
    let mut tasks = Vec::new();
    for number in 0..CALLS {
        let store = Arc::clone(&store);
        tasks.push(tokio::spawn(async move { store.claim(&key(number), &request()).await }));
    }
    // All that have begun wait for the lock, or for those that do.
    tokio::task::yield_now().await;
    for task in tasks.iter().step_by(2) {
        task.abort();
    }
    sqlx::raw_sql("COMMIT").execute(&mut writer).await.expect("the end of the lock");
    for (number, task) in tasks.into_iter().enumerate() {
        match task.await {
            Ok(answer) => drop(granted(answer)),
            Err(left) => assert!(left.is_cancelled() && number % 2 == 0),
        }
    }
}

/// Claims that fill the disk leave a connection behind that can write: what comes next is refused for the disk alone.
#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_fills_the_disk_fails_nothing_else() {
    let file = SqliteFile::new();
    let store = Arc::new(SqliteStore::new(file.pool(|options| options.pragma("max_page_count", "70"))));
    store.migrate().await.expect("a migration");
    let held = granted(store.claim(&key("held"), &request()).await);
    let mut full = 0;
    let large = Some(Bytes::from(vec![b'0'; 4096]));
    for (_, answer) in claim_all_with(&store, large).await {
        match answer {
            Ok(ClaimOutcome::Claimed { .. }) => {}
            Err(error) if error.kind() == StoreErrorKind::Full => full += 1,
            other => panic!("{other:?}"),
        }
    }
    assert!(full > 0, "the file is not full");
    // In a transaction of two statements.
    assert_eq!(abandon(&*store, &key("held"), &held).await.expect("an answer"), Suspension::Applied);
    for number in 0..CALLS {
        store.forget(&key(number)).await.expect("an answer");
    }
    granted(store.claim(&key("new"), &request()).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn claims_that_are_pending_share_a_commit() {
    let file = SqliteFile::new();
    let store = Arc::new(connect(&file).await);
    granted(store.claim(&key("first"), &request()).await);
    let before = commits(&file);
    granted(store.claim(&key("second"), &request()).await);
    assert_eq!(commits(&file), before + 1);
    for (_, answer) in claim_all(&store).await {
        granted(answer);
    }
    let commits = commits(&file) - before - 1;
    assert!(commits <= CALLS / 4, "{commits} commits");
}

/// The number of commits in the log: <https://www.sqlite.org/fileformat2.html#walformat>
fn commits(file: &SqliteFile) -> usize {
    let log = std::fs::read(file.path().with_extension("db-wal")).expect("a log");
    let number = |at: usize| u32::from_be_bytes(log[at..at + 4].try_into().expect("four bytes"));
    let (page, salt) = (number(8) as usize, number(16));
    let frames = (32..log.len()).step_by(24 + page).take_while(|&at| number(at + 8) == salt);
    // The last frame of a commit has the size of the file.
    frames.filter(|&at| number(at + 4) != 0).count()
}
