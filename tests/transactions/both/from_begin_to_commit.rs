//! `in_transaction`: a transaction from its begin to its commit.

use idempotent_runtime::{Disposition, State, in_transaction, store::Outcome, with_disposition};
use idempotent_tests::warnings;

use super::{
    support::Bank,
    transfer::{Failure, Runs, Then, deposit, withdraw},
};

#[tokio::test]
async fn a_result_is_committed_once() {
    let (bank, runs) = (Bank::open().await, Runs::default());
    for expected in [Disposition::Executed, Disposition::Replayed] {
        let call = in_transaction(&bank.pool, |tx| Box::pin(deposit(tx.0, &bank, "a", 5, Then::Return, &runs)));
        let (answer, disposition) = with_disposition(call).await;
        assert_eq!((answer.unwrap().as_str(), disposition), ("a: 5, attempt 1", expected));
    }
    assert_eq!((runs.count(), bank.effects("a").await), (1, 1));
}

#[tokio::test]
async fn a_kept_error_is_committed_without_effects() {
    let (bank, runs) = (Bank::open().await, Runs::default());
    for _ in 0..2 {
        let call = in_transaction(&bank.pool, |tx| Box::pin(withdraw(tx.0, &bank, "a", 5, Then::Decline, &runs)));
        assert!(matches!(call.await, Err(Failure::Declined)));
        let record = bank.record("withdraw", "a").await.expect("a record");
        assert!(matches!(record.state, State::Done(Outcome::Err(_))), "{record:?}");
    }
    assert_eq!((runs.count(), bank.effects("a").await), (1, 0));
}

#[tokio::test]
async fn another_error_leaves_nothing() {
    let (bank, runs) = (Bank::open().await, Runs::default());
    for runs_before in 0..2 {
        assert_eq!(runs.count(), runs_before);
        let call = in_transaction(&bank.pool, |tx| Box::pin(deposit(tx.0, &bank, "a", 5, Then::Break, &runs)));
        assert!(matches!(call.await, Err(Failure::Sql(_))));
        assert!(bank.record("deposit", "a").await.is_none());
    }
    assert_eq!(bank.effects("a").await, 0);
}

/// The natural `?` before the commit.
#[tokio::test]
async fn a_kept_error_that_is_rolled_back_is_told() {
    let (bank, runs) = (Bank::open().await, Runs::default());
    let (told, _guard) = warnings::listen();
    let handle = async {
        let mut tx = bank.begin().await;
        withdraw(&mut tx, &bank, "a", 5, Then::Decline, &runs).await?;
        tx.commit().await?;
        Ok::<_, Failure>(())
    };
    assert!(matches!(handle.await, Err(Failure::Declined)));
    let is_told = || told.lock().unwrap().iter().any(|text| text.contains("withdraw") && text.contains("rolled back"));
    assert!(!is_told(), "it may still be committed");
    tokio::time::timeout(std::time::Duration::from_secs(60), async {
        while !is_told() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    })
    .await
    .expect("an event");

    told.lock().unwrap().clear();
    let mut tx = bank.begin().await;
    assert!(withdraw(&mut tx, &bank, "b", 5, Then::Decline, &runs).await.is_err());
    tx.commit().await.unwrap();
    let call = in_transaction(&bank.pool, |tx| Box::pin(withdraw(tx.0, &bank, "c", 5, Then::Decline, &runs)));
    assert!(call.await.is_err());
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    assert!(!is_told(), "they are committed");
}

/// The record of the run that vanished is there again, and is none of this call.
#[tokio::test]
async fn a_kept_error_that_had_taken_over_and_is_rolled_back_is_told() {
    let (bank, runs) = (Bank::open().await, Runs::default());
    let call = in_transaction(&bank.pool, |tx| Box::pin(withdraw(tx.0, &bank, "a", 5, Then::Decline, &runs)));
    assert!(call.await.is_err());
    let vanish = "UPDATE idempotent_records SET state = 'abandoned', result = NULL";
    sqlx::query(vanish).execute(&bank.pool).await.unwrap();

    let (told, _guard) = warnings::listen();
    let mut tx = bank.begin().await;
    assert!(matches!(withdraw(&mut tx, &bank, "a", 5, Then::Decline, &runs).await, Err(Failure::Declined)));
    assert_eq!(runs.count(), 2);
    tx.rollback().await.unwrap();
    tokio::time::timeout(std::time::Duration::from_secs(60), async {
        while !told.lock().unwrap().iter().any(|text| text.contains("withdraw") && text.contains("rolled back")) {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    })
    .await
    .expect("an event");
}

/// Of a service that spawns its handlers.
#[tokio::test]
async fn it_runs_on_any_task() {
    let (bank, runs) = (std::sync::Arc::new(Bank::open().await), std::sync::Arc::new(Runs::default()));
    let (own_bank, own_runs) = (bank.clone(), runs.clone());
    let task = tokio::spawn(async move {
        let id = String::from("a");
        in_transaction(&own_bank.pool, |tx| Box::pin(deposit(tx.0, &own_bank, &id, 5, Then::Return, &own_runs))).await
    });
    assert_eq!(task.await.unwrap().unwrap(), "a: 5, attempt 1");
    assert_eq!((runs.count(), bank.effects("a").await), (1, 1));
}

/// The first call's record would be committed with what came after it.
#[tokio::test]
async fn the_last_call_decides() {
    let (bank, runs) = (Bank::open().await, Runs::default());
    let call = in_transaction(&bank.pool, |tx| {
        let (bank, runs) = (&bank, &runs);
        Box::pin(async move {
            assert!(withdraw(tx.0, bank, "a", 5, Then::Decline, runs).await.is_err());
            deposit(tx.0, bank, "b", 5, Then::Break, runs).await
        })
    });
    assert!(matches!(call.await, Err(Failure::Sql(_))));
    assert!(bank.record("withdraw", "a").await.is_none());
}
