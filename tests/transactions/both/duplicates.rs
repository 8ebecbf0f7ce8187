//! Duplicates that run at the same time.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use idempotent_runtime::{Error, idempotent};
use sqlx::Transaction;

use super::{
    support::{Bank, Db},
    transfer::{Failure, Runs, Then, deposit, effect},
};

/// A duplicate that is on its way, and will be waiting.
async fn duplicate(bank: &Arc<Bank>, runs: &Arc<Runs>) -> tokio::task::JoinHandle<Result<String, Failure>> {
    let (bank, runs) = (bank.clone(), runs.clone());
    let duplicate = tokio::spawn(async move { bank.deposit("a", &runs).await });
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!duplicate.is_finished(), "it has to wait: {:?}", duplicate.await);
    duplicate
}

#[tokio::test]
async fn s41_a_duplicate_waits_and_gets_the_committed_result() {
    let (bank, runs) = (Arc::new(Bank::open().await), Arc::new(Runs::default()));
    let mut tx = bank.begin().await;
    let first = deposit(&mut tx, &bank, "a", 5, Then::Return, &runs).await.unwrap();
    let duplicate = duplicate(&bank, &runs).await;
    tx.commit().await.unwrap();
    assert_eq!(duplicate.await.unwrap().unwrap(), first);
    assert_eq!((runs.count(), bank.effects("a").await), (1, 1));
}

#[tokio::test]
async fn s41_a_duplicate_of_what_was_rolled_back_runs() {
    let (bank, runs) = (Arc::new(Bank::open().await), Arc::new(Runs::default()));
    let mut tx = bank.begin().await;
    deposit(&mut tx, &bank, "a", 5, Then::Return, &runs).await.unwrap();
    let duplicate = duplicate(&bank, &runs).await;
    tx.rollback().await.unwrap();
    assert_eq!(duplicate.await.unwrap().unwrap(), "a: 5, attempt 1");
    assert_eq!((runs.count(), bank.effects("a").await), (2, 1));
}

#[idempotent(key = id, name = "deposit", wait = wait, transaction = tx, store = bank.idempotency, skip(bank, wait))]
async fn impatient(
    tx: &mut Transaction<'_, Db>,
    bank: &Bank,
    id: &str,
    cents: i64,
    wait: Duration,
) -> Result<String, Failure> {
    effect(tx, id, cents).await?;
    Ok("impatient".to_owned())
}

#[tokio::test]
async fn s41_a_duplicate_waits_as_long_as_it_said() {
    let (bank, runs) = (Bank::open().await, Runs::default());
    let mut tx = bank.begin().await;
    deposit(&mut tx, &bank, "a", 5, Then::Return, &runs).await.unwrap();
    let mut others = Vec::new();
    for wait in [Duration::ZERO, Duration::from_millis(300)] {
        let mut other = bank.begin().await;
        let asked = Instant::now();
        match impatient(&mut other, &bank, "a", 5, wait).await {
            Err(Failure::Idempotency(error)) => {
                assert!(matches!(error, Error::InFlight { .. } | Error::Store(_)), "{error:?}");
                assert!(error.is_retryable());
            }
            other => panic!("{other:?}"),
        }
        let waited = asked.elapsed();
        assert!(waited >= wait && waited < wait + Duration::from_secs(2), "{waited:?} of {wait:?}");
        others.push(other);
    }
    tx.commit().await.unwrap();
    // What else they do is not lost: a failed transaction would seem to be committed.
    for mut other in others {
        effect(&mut other, "other", 1).await.unwrap();
        other.commit().await.unwrap();
    }
    assert_eq!((bank.effects("a").await, bank.effects("other").await), (1, 2));
}

/// A wait without end is past the end of every clock.
#[tokio::test]
async fn s41_a_duplicate_may_wait_for_ever() {
    let (bank, runs) = (Arc::new(Bank::open().await), Runs::default());
    let mut tx = bank.begin().await;
    let first = deposit(&mut tx, &bank, "a", 5, Then::Return, &runs).await.unwrap();
    let patient = {
        let bank = bank.clone();
        tokio::spawn(async move {
            let mut tx = bank.begin().await;
            impatient(&mut tx, &bank, "a", 5, Duration::MAX).await
        })
    };
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!patient.is_finished());
    tx.commit().await.unwrap();
    assert_eq!(patient.await.unwrap().unwrap(), first);
}

/// More callers than connections: who waits has one, and who runs needs no second one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s41_many_duplicates_run_once() {
    let (bank, runs) = (Arc::new(Bank::open().await), Arc::new(Runs::default()));
    let callers: Vec<_> = (0..200)
        .map(|caller| {
            let (bank, runs) = (bank.clone(), runs.clone());
            tokio::spawn(async move {
                loop {
                    match bank.deposit(&format!("key-{}", caller % 4), &runs).await {
                        Ok(answer) => return answer,
                        Err(Failure::Idempotency(error)) => assert!(error.is_retryable(), "{error:?}"),
                        Err(other) => panic!("{other:?}"),
                    }
                }
            })
        })
        .collect();
    for (caller, answer) in callers.into_iter().enumerate() {
        assert_eq!(answer.await.unwrap(), format!("key-{}: 5, attempt 1", caller % 4));
    }
    for key in 0..4 {
        assert_eq!(bank.effects(&format!("key-{key}")).await, 1);
    }
}
