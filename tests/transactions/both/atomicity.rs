//! Effects and record: both or neither, however the body and the transaction end.

use idempotent_runtime::{Error, Execution, Idempotency, OperationError, StoreErrorKind, idempotent, store::State};
use serde::{Deserialize, Serialize, Serializer, ser::Error as _};
use sqlx::{Connection as _, Transaction};

use super::{
    support::{Bank, Db},
    transfer::{Failure, Runs, Then, count, deposit, effect, withdraw},
};

#[tokio::test]
async fn s40_a_commit_keeps_both() {
    let (bank, runs) = (Bank::open().await, Runs::default());
    for _ in 0..3 {
        assert_eq!(bank.deposit("a", &runs).await.unwrap(), "a: 5, attempt 1");
    }
    assert_eq!((runs.count(), bank.effects("a").await), (1, 1));
    let record = bank.record("deposit", "a").await.expect("a record");
    assert!(matches!(record.state, State::Done(_)), "{record:?}");
}

#[tokio::test]
async fn s40_a_rollback_keeps_neither() {
    let (bank, runs) = (Bank::open().await, Runs::default());
    for explicitly in [true, false] {
        let mut tx = bank.begin().await;
        deposit(&mut tx, &bank, "a", 5, Then::Return, &runs).await.unwrap();
        if explicitly {
            tx.rollback().await.unwrap();
        } else {
            drop(tx);
        }
        assert!(bank.record("deposit", "a").await.is_none());
        assert_eq!(bank.effects("a").await, 0);
    }
    assert_eq!(bank.deposit("a", &runs).await.unwrap(), "a: 5, attempt 1");
    assert_eq!((runs.count(), bank.effects("a").await), (3, 1));
}

#[tokio::test]
async fn s40_an_error_leaves_neither_though_the_caller_commits() {
    let (bank, runs) = (Bank::open().await, Runs::default());
    for then in [Then::Decline, Then::Break] {
        let mut tx = bank.begin().await;
        effect(&mut tx, "before", 1).await.unwrap();
        assert!(deposit(&mut tx, &bank, "a", 5, then, &runs).await.is_err());
        effect(&mut tx, "after", 1).await.unwrap();
        tx.commit().await.unwrap();
        assert!(bank.record("deposit", "a").await.is_none());
    }
    assert_eq!((bank.effects("before").await, bank.effects("a").await, bank.effects("after").await), (2, 0, 2));
    bank.deposit("a", &runs).await.unwrap();
    assert_eq!((runs.count(), bank.effects("a").await), (3, 1));
}

#[tokio::test]
async fn s40_an_error_that_is_kept_is_replayed_without_its_effects() {
    let (bank, runs) = (Bank::open().await, Runs::default());
    for _ in 0..2 {
        let mut tx = bank.begin().await;
        let declined = withdraw(&mut tx, &bank, "a", 5, Then::Decline, &runs).await;
        assert!(matches!(declined, Err(Failure::Declined)));
        tx.commit().await.unwrap();
    }
    assert_eq!((runs.count(), bank.effects("a").await), (1, 0));

    let mut tx = bank.begin().await;
    assert!(withdraw(&mut tx, &bank, "b", 5, Then::Break, &runs).await.is_err());
    assert!(withdraw(&mut tx, &bank, "c", 5, Then::Return, &runs).await.is_ok());
    tx.commit().await.unwrap();
    assert!(bank.record("withdraw", "b").await.is_none());
    assert_eq!((bank.effects("b").await, bank.effects("c").await), (0, 1));
}

#[tokio::test]
async fn s40_a_mismatch_changes_nothing() {
    let (bank, runs) = (Bank::open().await, Runs::default());
    bank.deposit("a", &runs).await.unwrap();
    let mut tx = bank.begin().await;
    effect(&mut tx, "before", 1).await.unwrap();
    let other = deposit(&mut tx, &bank, "a", 6, Then::Return, &runs).await;
    assert!(matches!(other, Err(Failure::Idempotency(Error::Mismatch { .. }))));
    tx.commit().await.unwrap();
    assert_eq!((runs.count(), bank.effects("a").await, bank.effects("before").await), (1, 1, 1));
    assert_eq!(bank.deposit("a", &runs).await.unwrap(), "a: 5, attempt 1");
}

/// The record is looked at through the transaction itself, which may be the only one that sees it.
#[tokio::test]
async fn s40_recorded_arguments_are_in_the_transaction_too() {
    let (mut bank, runs) = (Bank::open().await, Runs::default());
    bank.idempotency = Idempotency::builder().record_arguments(true).build(bank.idempotency.store().clone());
    let mut tx = bank.begin().await;
    deposit(&mut tx, &bank, "a", 5, Then::Return, &runs).await.unwrap();
    match deposit(&mut tx, &bank, "a", 6, Then::Return, &runs).await {
        Err(Failure::Idempotency(Error::Mismatch { arguments, .. })) => assert_eq!(*arguments, ["cents"]),
        other => panic!("{other:?}"),
    }
    tx.commit().await.unwrap();
    let record = bank.record("deposit", "a").await.expect("a record");
    assert_eq!(record.arguments.as_deref(), Some(&br#"{"cents":5,"id":"a"}"#[..]));
    assert_eq!((runs.count(), bank.effects("a").await), (1, 1));
}

#[tokio::test]
async fn s40_a_transaction_sees_its_own_calls() {
    let (bank, runs) = (Bank::open().await, Runs::default());
    let mut tx = bank.begin().await;
    for _ in 0..3 {
        assert!(deposit(&mut tx, &bank, "a", 5, Then::Return, &runs).await.is_ok());
        assert!(deposit(&mut tx, &bank, "b", 5, Then::Return, &runs).await.is_ok());
    }
    assert!(bank.record("deposit", "a").await.is_none(), "nobody else sees them");
    tx.commit().await.unwrap();
    assert_eq!((runs.count(), bank.effects("a").await, bank.effects("b").await), (2, 1, 1));
}

/// The outer function handles the error of the inner one.
#[idempotent(key = id, name = "outer", transaction = tx, store = bank.idempotency, skip(bank, runs))]
async fn outer(tx: &mut Transaction<'_, Db>, bank: &Bank, id: &str, runs: &Runs) -> Result<bool, Failure> {
    effect(tx, "outer", 1).await?;
    deposit(tx, bank, "inner-ok", 5, Then::Return, runs).await?;
    let declined = deposit(tx, bank, "inner-err", 5, Then::Decline, runs).await;
    // The key is this run's own: there is nobody to wait for.
    let recursion = Box::pin(outer(tx, bank, id, runs)).await;
    assert!(matches!(recursion, Err(Failure::Idempotency(Error::InFlight { .. }))), "{recursion:?}");
    Ok(declined.is_err())
}

#[tokio::test]
async fn s40_calls_in_calls_are_undone_by_themselves() {
    let (bank, runs) = (Bank::open().await, Runs::default());
    let mut tx = bank.begin().await;
    assert!(outer(&mut tx, &bank, "a", &runs).await.unwrap());
    tx.commit().await.unwrap();
    let effects = [bank.effects("outer").await, bank.effects("inner-ok").await, bank.effects("inner-err").await];
    assert_eq!(effects, [1, 1, 0]);
}

/// A result that cannot be serialized.
#[derive(Debug, Deserialize)]
struct Secret(String);

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(S::Error::custom("secret"))
    }
}

#[idempotent(key = id, name = "secret", transaction = tx, store = bank.idempotency, skip(bank))]
async fn secret(tx: &mut Transaction<'_, Db>, bank: &Bank, id: &str) -> Result<Secret, Failure> {
    effect(tx, id, 1).await?;
    Ok(Secret(id.to_owned()))
}

#[tokio::test]
async fn s40_a_result_that_cannot_be_kept_is_an_effect_all_the_same() {
    let bank = Bank::open().await;
    let mut tx = bank.begin().await;
    assert_eq!(secret(&mut tx, &bank, "a").await.unwrap().0, "a");
    tx.commit().await.unwrap();
    let mut tx = bank.begin().await;
    let again = secret(&mut tx, &bank, "a").await;
    assert!(matches!(again, Err(Failure::Idempotency(Error::ResultNotKept(_)))), "{again:?}");
    tx.commit().await.unwrap();
    assert_eq!(bank.effects("a").await, 1);
}

#[tokio::test]
async fn s40_a_connection_in_a_transaction_will_do() {
    let bank = Bank::open().await;
    let mut connection = bank.pool.acquire().await.unwrap();
    for _ in 0..2 {
        let mut tx = connection.begin().await.unwrap();
        assert_eq!(count(&mut tx, &bank, "a").await.unwrap(), 1);
        tx.commit().await.unwrap();
    }
    assert_eq!(bank.effects("a").await, 1);
}

#[tokio::test]
async fn s40_a_connection_without_a_transaction_is_refused() {
    let bank = Bank::open().await;
    let mut connection = bank.pool.acquire().await.unwrap();
    match count(&mut connection, &bank, "a").await {
        Err(Failure::Idempotency(Error::Store(error))) => assert_eq!(error.kind(), StoreErrorKind::Refused),
        other => panic!("{other:?}"),
    }
    assert_eq!(bank.effects("a").await, 0);
    assert!(bank.record("count", "a").await.is_none());
}

#[tokio::test]
async fn s40_another_store_than_the_transactions_is_refused() {
    let (mut bank, runs) = (Bank::open().await, Runs::default());
    bank.idempotency = Idempotency::memory();
    let mut tx = bank.begin().await;
    let refused = deposit(&mut tx, &bank, "a", 5, Then::Return, &runs).await;
    assert!(
        matches!(refused, Err(Failure::Idempotency(Error::Operation(OperationError::NoTransactions)))),
        "{refused:?}"
    );
    effect(&mut tx, "after", 1).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!((runs.count(), bank.effects("after").await), (0, 1));
}

/// On its own task, so that the future has to be `Send`.
#[tokio::test]
async fn s40_the_same_without_the_attribute() {
    let bank = std::sync::Arc::new(Bank::open().await);
    for _ in 0..2 {
        let bank = bank.clone();
        let task = tokio::spawn(async move {
            let mut tx = bank.begin().await;
            let answer = bank.idempotency.call("call").key("a").arguments(&5).in_transaction(&mut tx).run(|tx| {
                Box::pin(async move {
                    effect(tx, "a", 1).await?;
                    let execution = Execution::current().expect("an execution");
                    Ok::<_, Failure>((execution.attempt(), execution.fence().await?))
                })
            });
            let answer = answer.await.unwrap();
            tx.commit().await.unwrap();
            answer
        });
        let (attempt, fence) = task.await.unwrap();
        assert_eq!(attempt, 1);
        assert!(fence > 0);
    }
    assert_eq!(bank.effects("a").await, 1);
}

#[tokio::test]
async fn s40_fences_rise_with_every_claim() {
    let (bank, mut last) = (Bank::open().await, 0);
    for _ in 0..3 {
        let mut tx = bank.begin().await;
        let fence = bank
            .idempotency
            .call("fence")
            .key("a")
            .in_transaction(&mut tx)
            .run(|_| Box::pin(async { Execution::current().unwrap().fence().await }));
        let fence = fence.await.unwrap();
        assert!(fence > last, "{fence} after {last}");
        last = fence;
        tx.commit().await.unwrap();
        assert!(bank.idempotency.forget("fence", "a").await.unwrap());
    }
}

#[tokio::test]
async fn s40_a_body_that_ends_the_transaction_itself_is_told() {
    let (bank, runs) = (Bank::open().await, Runs::default());
    let mut tx = bank.begin().await;
    assert!(deposit(&mut tx, &bank, "a", 5, Then::EndTheTransaction, &runs).await.is_err());
    drop(tx);
    assert_eq!(bank.effects("a").await, 0, "the database refused the commit");
    assert!(bank.record("deposit", "a").await.is_none());
}
