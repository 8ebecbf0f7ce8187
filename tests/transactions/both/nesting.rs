//! Calls in calls, and savepoints of the caller's own: whatever is left open inside, the call around it ends as a whole.

use idempotent_runtime::{Operation, idempotent};
use sqlx::{Connection as _, Transaction};

use super::{
    cancellation::woken,
    support::{Bank, Db},
    transfer::{Failure, Runs, Then, deposit, effect, withdraw},
};

/// Gives a call up on its way, and ends as it was told.
#[idempotent(key = id, name = "keeping", errors = keep, transaction = tx, store = bank.idempotency, skip(bank, times, then, runs))]
async fn keeping(
    tx: &mut Transaction<'_, Db>,
    bank: &Bank,
    id: &str,
    times: usize,
    then: Then,
    runs: &Runs,
) -> Result<bool, Failure> {
    give_up(tx, bank, id, times, then, runs).await
}

#[idempotent(key = id, name = "freeing", transaction = tx, store = bank.idempotency, skip(bank, times, then, runs))]
async fn freeing(
    tx: &mut Transaction<'_, Db>,
    bank: &Bank,
    id: &str,
    times: usize,
    then: Then,
    runs: &Runs,
) -> Result<bool, Failure> {
    give_up(tx, bank, id, times, then, runs).await
}

async fn give_up(
    tx: &mut Transaction<'_, Db>,
    bank: &Bank,
    id: &str,
    times: usize,
    then: Then,
    runs: &Runs,
) -> Result<bool, Failure> {
    effect(tx, id, 1).await?;
    let inner = format!("{id}-inner");
    let ended = woken(withdraw(tx, bank, &inner, 5, Then::Return, runs), times).await.is_some();
    match then {
        Then::Decline => Err(Failure::Declined),
        _ => Ok(ended),
    }
}

#[tokio::test]
async fn s40_a_call_given_up_in_a_body_leaves_the_body_whole() {
    let (bank, runs, mut committed) = (Bank::open().await, Runs::default(), 0);
    for times in 0..24 {
        for (kind, then) in
            [("keep", Then::Decline), ("free", Then::Decline), ("keep", Then::Return), ("free", Then::Return)]
        {
            let (id, is_kept) = (format!("{kind}-{times}-{}", matches!(then, Then::Return)), kind == "keep");
            let mut tx = bank.begin().await;
            effect(&mut tx, "before", 1).await.unwrap();
            let answer = if is_kept {
                keeping(&mut tx, &bank, &id, times, then, &runs).await
            } else {
                freeing(&mut tx, &bank, &id, times, then, &runs).await
            };
            let is_committed = tx.commit().await.is_ok();
            committed += i64::from(is_committed);
            let name = if is_kept { "keeping" } else { "freeing" };
            let expected = i64::from(is_committed && answer.is_ok());
            assert_eq!(bank.effects(&id).await, expected, "{id}: {answer:?}");
            let inner = format!("{id}-inner");
            let recorded = [bank.record(name, &id).await.is_some(), bank.record("withdraw", &inner).await.is_some()];
            assert_eq!(recorded[0], is_committed && (answer.is_ok() || is_kept), "{id}: {answer:?}");
            assert_eq!(recorded[1], bank.effects(&inner).await == 1, "{id}: {answer:?}");
            assert!(is_committed || answer.is_ok(), "{id}: an error takes all of it back");
        }
    }
    assert_eq!(bank.effects("before").await, committed);
}

/// A savepoint that the body set and did not release is lost with the body.
#[tokio::test]
async fn s40_savepoints_of_the_body_end_with_it() {
    let bank = Bank::open().await;
    for (id, operation, is_ok, effects) in
        [("a", "open", true, [1, 0]), ("b", "open", false, [0, 0]), ("c", "released", true, [1, 1])]
    {
        let mut tx = bank.begin().await;
        let operation_ = Operation::new(operation).keep_errors();
        let answer = bank.idempotency.call(operation_).key(id).in_transaction(&mut tx).run(|tx| {
            Box::pin(async move {
                effect(tx, id, 1).await?;
                sqlx::raw_sql("SAVEPOINT idempotent").execute(&mut **tx).await?;
                let mut nested = tx.begin().await?;
                effect(&mut nested, &format!("{id}-nested"), 1).await?;
                if operation == "released" {
                    nested.commit().await?;
                } else {
                    drop(nested);
                }
                if is_ok { Ok(()) } else { Err(Failure::Declined) }
            })
        });
        assert_eq!(answer.await.is_ok(), is_ok);
        tx.commit().await.unwrap();
        assert!(bank.record(operation, id).await.is_some());
        assert_eq!([bank.effects(id).await, bank.effects(&format!("{id}-nested")).await], effects, "{id}");
    }
}

#[tokio::test]
async fn s40_a_savepoint_around_a_call_takes_it_back() {
    let (bank, runs) = (Bank::open().await, Runs::default());
    let mut tx = bank.begin().await;
    for explicitly in [true, false] {
        let mut nested = tx.begin().await.unwrap();
        deposit(&mut nested, &bank, "a", 5, Then::Return, &runs).await.unwrap();
        if explicitly {
            nested.rollback().await.unwrap();
        }
    }
    let mut nested = tx.begin().await.unwrap();
    deposit(&mut nested, &bank, "a", 5, Then::Return, &runs).await.unwrap();
    nested.commit().await.unwrap();
    deposit(&mut tx, &bank, "a", 5, Then::Return, &runs).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!((runs.count(), bank.effects("a").await), (3, 1));
}

/// Dropped in a savepoint of the caller's, which takes back the half of the call that there is.
#[tokio::test]
async fn s40_a_call_dropped_in_a_savepoint_is_undone_with_it() {
    let (bank, runs) = (Bank::open().await, Runs::default());
    for times in 0..16 {
        let id = format!("a-{times}");
        let mut tx = bank.begin().await;
        let mut nested = tx.begin().await.unwrap();
        let ended = woken(withdraw(&mut nested, &bank, &id, 5, Then::Return, &runs), times).await.is_some();
        drop(nested);
        effect(&mut tx, "after", 1).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(bank.effects(&id).await, 0, "ended: {ended}");
        assert!(bank.record("withdraw", &id).await.is_none());
    }
    assert_eq!(bank.effects("after").await, 16);
}

/// The database has failed the transaction up to the savepoint: what it says counts, not what the body says.
#[tokio::test]
async fn s40_a_body_that_ignores_an_error_of_the_database() {
    let bank = Bank::open().await;
    for is_ok in [true, false] {
        let id = format!("ignores-{is_ok}");
        let mut tx = bank.begin().await;
        effect(&mut tx, "before", 1).await.unwrap();
        let operation = Operation::new("ignore").keep_errors();
        let answer = bank.idempotency.call(operation).key(&id).in_transaction(&mut tx).run(|tx| {
            let id = id.clone();
            Box::pin(async move {
                effect(tx, &id, 1).await?;
                let _ = sqlx::raw_sql("SELECT nothing FROM nowhere").execute(&mut **tx).await;
                if is_ok { Ok(()) } else { Err(Failure::Declined) }
            })
        });
        let answer = answer.await;
        tx.commit().await.unwrap();
        let recorded = bank.record("ignore", &id).await.is_some();
        // PostgreSQL has failed the transaction, SQLite the statement alone.
        assert_eq!(bank.effects(&id).await, i64::from(answer.is_ok()), "{answer:?}");
        assert_eq!(recorded, answer.is_ok() || !is_ok, "{answer:?}");
    }
    assert_eq!(bank.effects("before").await, 2);
}
