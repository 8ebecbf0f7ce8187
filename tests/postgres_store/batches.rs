//! Claims, and ends of runs, that are pending together share a statement, and nothing else.

use std::sync::Arc;

use idempotent_runtime::{
    Store,
    store::{ClaimOutcome, StoreResult, Transition, postgres::PostgresStore},
};
use tokio::task::JoinSet;

use crate::{
    PostgresDatabase, PostgresServer,
    support::{TTL, connect, granted, is_done, key, other_fingerprint, outcome, request, value},
};

const CALLS: usize = 200;

async fn claim_all(store: &Arc<PostgresStore>) -> Vec<(usize, StoreResult<ClaimOutcome>)> {
    let mut claims = JoinSet::new();
    for number in 0..CALLS {
        let store = Arc::clone(store);
        claims.spawn(async move { (number, store.claim(&key(number), &request()).await) });
    }
    claims.join_all().await
}

async fn complete_all(store: &Arc<PostgresStore>, claimed: Vec<(usize, StoreResult<ClaimOutcome>)>) {
    let mut ends = JoinSet::new();
    for (number, answer) in claimed {
        let (store, token) = (Arc::clone(store), granted(answer));
        ends.spawn(async move { store.complete(&key(number), &token, &outcome(), TTL).await });
    }
    for end in ends.join_all().await {
        assert_eq!(end.expect("an answer"), Transition::Applied);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_of_many_at_once_is_answered_for_itself_in_few_transactions() {
    let database = PostgresDatabase::from(PostgresServer::start_with(&["autovacuum=off"]).await);
    let store = Arc::new(connect(&database.url()).await);
    granted(store.claim(&key("first"), &request()).await);
    let next = "SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint";
    let before: i64 = value(&database, next).await;
    let claimed = claim_all(&store).await;
    complete_all(&store, claimed).await;
    let transactions = value::<i64>(&database, next).await - before;
    assert!(transactions < CALLS as i64, "{transactions} transactions");
    for number in 0..CALLS {
        assert!(is_done(&*store, &key(number)).await);
    }
}

/// Of the keys, some are done, some are running, some have another request, and some are vacant.
#[tokio::test(flavor = "multi_thread")]
async fn hits_misses_and_refusals_travel_together() {
    let database = PostgresDatabase::create().await;
    let store = Arc::new(connect(&database.url()).await);
    for number in 0..CALLS {
        let request = if number % 4 == 2 { other_fingerprint() } else { request() };
        if number % 4 != 3 {
            let token = granted(store.claim(&key(number), &request).await);
            if number % 4 == 0 {
                let ended = store.complete(&key(number), &token, &outcome(), TTL).await;
                assert_eq!(ended.expect("an answer"), Transition::Applied);
            }
        }
    }
    for (number, answer) in claim_all(&store).await {
        let answer = answer.expect("an answer");
        match number % 4 {
            0 => assert!(matches!(&answer, ClaimOutcome::Done(done) if done.outcome == outcome()), "{answer:?}"),
            1 => assert!(matches!(answer, ClaimOutcome::InFlight { .. }), "{answer:?}"),
            2 => assert!(matches!(answer, ClaimOutcome::Mismatch), "{answer:?}"),
            _ => assert!(matches!(answer, ClaimOutcome::Claimed { .. }), "{answer:?}"),
        }
    }
}

/// Another transaction has one of the keys, and then one of the records.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_is_locked_holds_up_no_other() {
    let database = PostgresDatabase::create().await;
    let store = Arc::new(connect(&database.url()).await);
    let mut client = database.client().await;
    let insert = "BEGIN;
        INSERT INTO idempotent_records (operation, key, state, fingerprint, nonce, attempt, expires_at, life_began_at)
        VALUES ('tests.operation', '77', 'ok', '', '', 1, now() + interval '1 day', now())";
    sqlx::raw_sql(insert).execute(&mut client).await.expect("a lock");
    let mut claimed = Vec::new();
    for (number, answer) in claim_all(&store).await {
        if number == 77 {
            assert!(matches!(answer, Ok(ClaimOutcome::InFlight { .. })), "{answer:?}");
        } else {
            claimed.push((number, answer));
        }
    }
    let lock = "ROLLBACK; BEGIN; SELECT FROM idempotent_records WHERE key = '78' FOR UPDATE";
    sqlx::raw_sql(lock).execute(&mut client).await.expect("a lock");
    let at = claimed.iter().position(|(number, _)| *number == 78).expect("a claim");
    let (_, locked) = claimed.swap_remove(at);
    let locked = {
        let (store, token) = (Arc::clone(&store), granted(locked));
        tokio::spawn(async move { store.complete(&key(78), &token, &outcome(), TTL).await })
    };
    complete_all(&store, claimed).await;
    assert!(!locked.is_finished());
    sqlx::raw_sql("ROLLBACK").execute(&mut client).await.expect("the end of the lock");
    assert_eq!(locked.await.expect("no panic").expect("an answer"), Transition::Applied);
}

/// A trigger refuses one key in five.
#[tokio::test(flavor = "multi_thread")]
async fn one_that_fails_fails_no_other() {
    let database = PostgresDatabase::create().await;
    let store = Arc::new(connect(&database.url()).await);
    database
        .execute(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'as planned'; END $$;
             CREATE TRIGGER refusing BEFORE INSERT ON idempotent_records FOR EACH ROW WHEN (NEW.key LIKE '%5')
             EXECUTE FUNCTION refuse()",
        )
        .await;
    for (number, answer) in claim_all(&store).await {
        assert_eq!(answer.is_err(), number % 10 == 5, "{number}: {answer:?}");
    }
    assert_eq!(value::<i64>(&database, "SELECT count(*) FROM idempotent_records").await, CALLS as i64 * 9 / 10);
}

/// Two stores claim and complete the same keys at once, in opposite orders.
#[tokio::test(flavor = "multi_thread")]
async fn batches_of_several_processes_do_not_deadlock() {
    let database = PostgresDatabase::create().await;
    let stores = [Arc::new(connect(&database.url()).await), Arc::new(connect(&database.url()).await)];
    let deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()";
    let mut claims = JoinSet::new();
    for number in 0..CALLS {
        for (place, store) in stores.iter().enumerate() {
            let (store, number) = (Arc::clone(store), if place == 0 { number } else { CALLS - 1 - number });
            claims.spawn(async move { (number, store.claim(&key(number), &request()).await.expect("an answer")) });
        }
    }
    let mut winners = vec![0; CALLS];
    for (number, answer) in claims.join_all().await {
        match answer {
            ClaimOutcome::Claimed { .. } => winners[number] += 1,
            ClaimOutcome::InFlight { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(winners, vec![1; CALLS]);
    assert_eq!(value::<i64>(&database, deadlocks).await, 0);
}
