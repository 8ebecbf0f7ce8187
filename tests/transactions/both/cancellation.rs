//! Calls that nobody waits for to the end.

use std::{
    future::{Future, poll_fn},
    panic::AssertUnwindSafe,
    pin::pin,
    task::Poll,
};

use sqlx::Transaction;
use tokio::task::yield_now;

use super::{
    support::{Bank, Db},
    transfer::{Runs, Then, deposit, effect, withdraw},
};

/// Polls a future until it has been woken this often; `None` if it is not ready by then.
pub(crate) async fn woken<F: Future>(future: F, times: usize) -> Option<F::Output> {
    let (mut future, mut polls) = (pin!(future), 0);
    poll_fn(|cx| {
        if let Poll::Ready(output) = future.as_mut().poll(cx) {
            return Poll::Ready(Some(output));
        }
        polls += 1;
        if polls > times { Poll::Ready(None) } else { Poll::Pending }
    })
    .await
}

/// Dropped at every point at which it waits; the caller commits all the same, or would.
#[tokio::test]
async fn s40_a_call_dropped_anywhere_leaves_all_or_nothing() {
    let (bank, mut refused, mut committed) = (Bank::open().await, 0, 0);
    for (then, kept) in [(Then::Return, 1), (Then::Decline, 0)] {
        for times in 0.. {
            let (runs, id) = (Runs::default(), format!("{kept}-{times}"));
            let mut tx = bank.begin().await;
            let call = async {
                if times % 2 == 0 {
                    deposit(&mut tx, &bank, &id, 5, then, &runs).await
                } else {
                    withdraw(&mut tx, &bank, &id, 5, then, &runs).await
                }
            };
            let ended = woken(call, times / 2).await.is_some();
            match tx.commit().await {
                Ok(()) => committed += 1,
                Err(_) => refused += 1,
            }
            let operation = if times % 2 == 0 { "deposit" } else { "withdraw" };
            let recorded = bank.record(operation, &id).await.is_some();
            let effects = bank.effects(&id).await;
            assert!(recorded || effects == 0, "{operation} {id}: an effect without a record");
            assert!(effects <= kept, "{operation} {id}");
            if kept == 1 {
                assert_eq!(recorded, effects == 1, "{operation} {id}: a record without its effect");
            }
            if ended && times % 2 == 1 {
                break;
            }
        }
    }
    assert!(refused > 2 && committed > 2, "{refused} refused, {committed} committed");
}

#[tokio::test]
async fn s40_what_is_dropped_in_the_body_cannot_be_committed() {
    let (bank, runs) = (Bank::open().await, Runs::default());
    let mut tx = bank.begin().await;
    effect(&mut tx, "before", 1).await.unwrap();
    tokio::select! {
        _ = deposit(&mut tx, &bank, "a", 5, Then::Hang, &runs) => unreachable!(),
        () = async { while runs.count() == 0 { tokio::task::yield_now().await } } => {}
    }
    assert!(tx.commit().await.is_err());
    assert_eq!((bank.effects("a").await, bank.effects("before").await), (0, 0));
    assert_eq!(bank.deposit("a", &runs).await.unwrap(), "a: 5, attempt 1");
}

#[tokio::test]
async fn s40_what_panicked_cannot_be_committed() {
    let (bank, runs) = (Bank::open().await, Runs::default());
    let mut tx = bank.begin().await;
    let call = AssertUnwindSafe(deposit(&mut tx, &bank, "a", 5, Then::Panic, &runs));
    assert!(catch(call).await.is_err());
    assert!(tx.commit().await.is_err());
    assert_eq!(bank.effects("a").await, 0);
    assert_eq!(bank.deposit("a", &runs).await.unwrap(), "a: 5, attempt 1");
}

async fn catch<F: Future>(future: AssertUnwindSafe<F>) -> std::thread::Result<F::Output> {
    let mut future = pin!(future.0);
    poll_fn(|cx| match std::panic::catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
        Ok(Poll::Pending) => Poll::Pending,
        Ok(Poll::Ready(output)) => Poll::Ready(Ok(output)),
        Err(panic) => Poll::Ready(Err(panic)),
    })
    .await
}

/// The caller's transaction ends with the caller, wherever that was.
#[tokio::test]
async fn s40_a_caller_that_goes_away_leaves_nothing() {
    let (bank, runs, mut times) = (Bank::open().await, Runs::default(), 0);
    let without_commit = async || {
        let mut tx: Transaction<'_, Db> = bank.begin().await;
        yield_now().await;
        let answer = deposit(&mut tx, &bank, "a", 5, Then::Return, &runs).await;
        yield_now().await;
        answer
    };
    while woken(without_commit(), times).await.is_none() {
        times += 1;
        assert_eq!(bank.effects("a").await, 0);
    }
    // Before the call, twice in its body, and after it, however fast the database answers.
    assert!(times > 3, "{times}");
    assert_eq!(bank.deposit("a", &runs).await.unwrap(), "a: 5, attempt 1");
}
