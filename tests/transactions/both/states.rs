//! Records of calls that are not in a transaction, and what else is done to records meanwhile.

use std::time::{Duration, Instant};

use idempotent_runtime::{Error, OnAbandoned, Operation};

use super::{
    support::{Bank, Db},
    transfer::{Failure, effect},
};

type Tx<'t> = sqlx::Transaction<'t, Db>;

async fn in_transaction(bank: &Bank, tx: &mut Tx<'_>, operation: Operation, cents: i64) -> Result<String, Failure> {
    let call = bank.idempotency.call(operation).key("a").arguments(&cents).in_transaction(tx).run(|tx| {
        Box::pin(async move {
            effect(tx, "a", cents).await?;
            Ok::<_, Failure>("in a transaction".to_owned())
        })
    });
    call.await
}

async fn outside(bank: &Bank, operation: Operation, cents: i64) -> Result<String, Failure> {
    bank.idempotency
        .call(operation)
        .key("a")
        .arguments(&cents)
        .run(async { Ok::<_, Failure>("outside".to_owned()) })
        .await
}

fn error<T: std::fmt::Debug>(answer: Result<T, Failure>) -> Error {
    match answer {
        Err(Failure::Idempotency(error)) => error,
        other => panic!("{other:?}"),
    }
}

fn operation(abandoned: OnAbandoned) -> Operation {
    Operation::new("op").lease(Duration::from_millis(200)).wait(Duration::from_millis(300)).abandoned(abandoned)
}

/// A run outside that is given up in its body.
async fn begun(bank: &Bank, operation: Operation) {
    let hang =
        bank.idempotency.call(operation).key("a").arguments(&5).run(std::future::pending::<Result<String, Failure>>());
    assert!(tokio::time::timeout(Duration::from_millis(100), hang).await.is_err());
}

#[tokio::test]
async fn a_finished_run_is_replayed_in_a_transaction_and_the_other_way_round() {
    let bank = Bank::open().await;
    let op = || operation(OnAbandoned::Rerun);
    assert_eq!(outside(&bank, op(), 5).await.unwrap(), "outside");
    let mut tx = bank.begin().await;
    assert_eq!(in_transaction(&bank, &mut tx, op(), 5).await.unwrap(), "outside");
    assert!(matches!(error(in_transaction(&bank, &mut tx, op(), 6).await), Error::Mismatch { .. }));
    tx.commit().await.unwrap();
    assert!(bank.idempotency.forget("op", "a").await.unwrap());
    let mut tx = bank.begin().await;
    assert_eq!(in_transaction(&bank, &mut tx, op(), 5).await.unwrap(), "in a transaction");
    tx.commit().await.unwrap();
    assert_eq!(outside(&bank, op(), 5).await.unwrap(), "in a transaction");
    assert!(matches!(error(outside(&bank, op(), 6).await), Error::Mismatch { .. }));
    assert_eq!(bank.effects("a").await, 1);
}

#[tokio::test]
async fn an_abandoned_run_is_taken_over_or_refused() {
    let bank = Bank::open().await;
    begun(&bank, operation(OnAbandoned::Rerun)).await;
    let mut tx = bank.begin().await;
    let refused = in_transaction(&bank, &mut tx, operation(OnAbandoned::Refuse), 5).await;
    // The abandonment may still be on its way.
    assert!(matches!(error(refused), Error::Abandoned { .. } | Error::InFlight { .. }));
    tx.rollback().await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    let mut tx = bank.begin().await;
    assert!(matches!(
        error(in_transaction(&bank, &mut tx, operation(OnAbandoned::Refuse), 5).await),
        Error::Abandoned { .. }
    ));
    assert!(matches!(
        error(in_transaction(&bank, &mut tx, operation(OnAbandoned::Rerun), 6).await),
        Error::Mismatch { .. }
    ));
    in_transaction(&bank, &mut tx, operation(OnAbandoned::Rerun), 5).await.unwrap();
    drop(tx);
    // Taken back, it is as abandoned as before.
    let mut tx = bank.begin().await;
    in_transaction(&bank, &mut tx, operation(OnAbandoned::Rerun), 5).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(bank.record("op", "a").await.unwrap().attempt, 2);
    assert_eq!(bank.effects("a").await, 1);
}

#[tokio::test]
async fn a_live_run_outside_is_told_and_goes_on() {
    let bank = std::sync::Arc::new(Bank::open().await);
    let (enter, entered) = tokio::sync::oneshot::channel();
    let (leave, left) = tokio::sync::oneshot::channel::<()>();
    let run = tokio::spawn({
        let bank = bank.clone();
        async move {
            let body = async {
                enter.send(()).unwrap();
                left.await.unwrap();
                Ok::<_, Failure>("outside".to_owned())
            };
            bank.idempotency.call(operation(OnAbandoned::Rerun)).key("a").arguments(&5).run(body).await
        }
    });
    entered.await.unwrap();
    let mut tx = bank.begin().await;
    effect(&mut tx, "before", 1).await.unwrap();
    assert!(matches!(
        error(in_transaction(&bank, &mut tx, operation(OnAbandoned::Rerun), 5).await),
        Error::InFlight { .. }
    ));
    tx.commit().await.unwrap();
    leave.send(()).unwrap();
    assert_eq!(run.await.unwrap().unwrap(), "outside");
    let mut tx = bank.begin().await;
    assert_eq!(in_transaction(&bank, &mut tx, operation(OnAbandoned::Rerun), 5).await.unwrap(), "outside");
}

/// Longer than lease and time to live: neither counts before the commit.
#[tokio::test]
async fn a_transaction_may_stay_open() {
    let bank = Bank::open().await;
    let op = || Operation::new("op").lease(Duration::from_millis(50)).ttl(Duration::from_millis(100));
    let mut tx = bank.begin().await;
    let call = bank.idempotency.call(op()).key("a").arguments(&5).in_transaction(&mut tx).run(|tx| {
        Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(400)).await;
            effect(tx, "a", 5).await?;
            Ok::<_, Failure>(String::new())
        })
    });
    call.await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(bank.effects("a").await, 1);
}

/// Nothing waits for ever for a transaction, and nothing of it is lost.
#[tokio::test]
async fn operators_do_not_wait_for_ever() {
    let bank = Bank::open().await;
    begun(&bank, operation(OnAbandoned::Rerun)).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let mut tx = bank.begin().await;
    in_transaction(&bank, &mut tx, operation(OnAbandoned::Rerun), 5).await.unwrap();
    let asked = Instant::now();
    assert_eq!(bank.record("op", "a").await.unwrap().attempt, 1, "nobody else sees the takeover");
    assert_eq!(bank.idempotency.list(None, None, 10).await.unwrap().records.len(), 1);
    assert!(asked.elapsed() < Duration::from_secs(2));
    let _ = tokio::time::timeout(Duration::from_millis(300), bank.idempotency.forget("op", "a")).await;
    let _ = tokio::time::timeout(Duration::from_millis(300), bank.idempotency.purge_expired(10)).await;
    tx.commit().await.unwrap();
    assert_eq!(bank.effects("a").await, 1);
}

/// A result that was rolled back is replayed to nobody.
#[tokio::test]
async fn a_local_cache_shows_what_was_committed() {
    let mut bank = Bank::open().await;
    bank.idempotency = bank.cached();
    let op = || operation(OnAbandoned::Rerun);
    for _ in 0..2 {
        let mut tx = bank.begin().await;
        in_transaction(&bank, &mut tx, op(), 5).await.unwrap();
        in_transaction(&bank, &mut tx, op(), 5).await.unwrap();
        tx.rollback().await.unwrap();
        assert_eq!((bank.effects("a").await, bank.record("op", "a").await.is_none()), (0, true));
    }
    assert_eq!(outside(&bank, op(), 5).await.unwrap(), "outside");
    assert!(bank.idempotency.forget("op", "a").await.unwrap());
    let mut tx = bank.begin().await;
    assert_eq!(in_transaction(&bank, &mut tx, op(), 5).await.unwrap(), "in a transaction");
    tx.commit().await.unwrap();
    assert_eq!(outside(&bank, op(), 5).await.unwrap(), "in a transaction");
    assert_eq!(bank.effects("a").await, 1);
}

/// Each has what the other wants.
#[tokio::test]
async fn two_keys_in_opposite_order() {
    let bank = std::sync::Arc::new(Bank::open().await);
    let barrier = std::sync::Arc::new(tokio::sync::Barrier::new(2));
    let both = [["x", "y"], ["y", "x"]].map(|keys| {
        let (bank, barrier) = (bank.clone(), barrier.clone());
        tokio::spawn(async move {
            let mut tries = 0;
            'again: loop {
                tries += 1;
                let mut tx = bank.begin().await;
                for (nth, key) in keys.into_iter().enumerate() {
                    let op = Operation::new("op").wait(Duration::from_secs(2));
                    let call = bank.idempotency.call(op).key(key).in_transaction(&mut tx).run(|tx| {
                        Box::pin(async move {
                            effect(tx, key, 1).await?;
                            Ok::<_, Failure>(())
                        })
                    });
                    if let Err(error) = call.await {
                        assert!(self::error::<()>(Err(error)).is_retryable());
                        continue 'again;
                    }
                    if tries == 1 && nth == 0 {
                        // SQLite lets only one of them come this far.
                        let _ = tokio::time::timeout(Duration::from_millis(300), barrier.wait()).await;
                    }
                }
                if tx.commit().await.is_ok() {
                    return;
                }
            }
        })
    });
    for one in both {
        one.await.unwrap();
    }
    assert_eq!((bank.effects("x").await, bank.effects("y").await), (1, 1));
}
