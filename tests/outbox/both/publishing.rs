//! What is in the table after attempts, rollbacks and conflicts.

use idempotent_runtime::{
    Error, StoreErrorKind, in_transaction,
    outbox::{Outbox, Outgoing},
};
use sqlx::Connection as _;

use super::support::{COMMITS_A_CONFLICT, Db, Target};

const ROWS: &str = "SELECT count(*) FROM idempotent_records_outbox";

fn ping() -> Outgoing<'static> {
    Outgoing::new("pings", b"ping")
}

fn labelled(label: &'static str, payload: &'static str) -> Outgoing<'static> {
    Outgoing { label: Some(label), ..Outgoing::new("orders", payload.as_bytes()) }
}

/// Publishes in a transaction of its own.
async fn publish(target: &Target, outgoing: Outgoing<'_>) -> String {
    let mut tx = target.begin().await;
    let id = Outbox::new().publish(&mut tx, outgoing).await.unwrap();
    tx.commit().await.unwrap();
    id
}

/// An attempt of one run, which fails after what it did: the next one is the next attempt.
async fn attempt<T>(target: &Target, body: impl Future<Output = T>) -> T {
    let mut answer = None;
    let operation = idempotent_runtime::Operation::new("handle").max_attempts(10);
    let call = target.idempotency.call(operation).key("message-17");
    let failed = call
        .run(async {
            answer = Some(body.await);
            Err::<(), _>(Error::TooManyWaiters)
        })
        .await;
    assert!(failed.is_err());
    answer.unwrap()
}

#[tokio::test]
async fn t20_a_rollback_leaves_no_row_and_a_commit_one() {
    let target = Target::create().await;
    let mut tx = target.begin().await;
    Outbox::new().publish(&mut tx, ping()).await.unwrap();
    tx.rollback().await.unwrap();
    assert_eq!(target.count(ROWS).await, 0);
    let mut tx = target.begin().await;
    // Of a connection, too.
    Outbox::new().publish(&mut *tx, ping()).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(target.count(ROWS).await, 1);
}

#[tokio::test]
async fn t20_outside_of_a_run_each_message_is_another() {
    let target = Target::create().await;
    let ids = [publish(&target, ping()).await, publish(&target, ping()).await];
    assert_ne!(ids[0], ids[1]);
    assert!(ids.iter().all(|id| id.len() == 36 && id.as_bytes()[14] == b'7'), "{ids:?}");
    assert_eq!(target.count(ROWS).await, 2);
}

#[tokio::test]
async fn t20_a_second_attempt_publishes_the_same_messages() {
    let target = Target::create().await;
    let both = || async { [publish(&target, labelled("paid", "1")).await, publish(&target, ping()).await] };
    let first = attempt(&target, both()).await;
    let second = attempt(&target, both()).await;
    assert_eq!(first, second);
    assert_eq!(target.count(ROWS).await, 2);

    // Of another run, and of another life of the key.
    let other = target.idempotency.call("handle").key("message-18");
    let other = other.run(async { Ok::<_, Error>(publish(&target, labelled("paid", "1")).await) }).await.unwrap();
    target.idempotency.forget("handle", "message-17").await.unwrap();
    let third = attempt(&target, both()).await;
    assert!(third[0] != first[0] && third[1] != first[1] && other != first[0]);
}

/// The relay has removed the rows: the messages come again, under the ids that the next inbox knows.
#[tokio::test]
async fn t20_a_second_attempt_after_the_relay_publishes_the_same_ids() {
    let target = Target::create().await;
    let both = || async { [publish(&target, labelled("paid", "1")).await, publish(&target, ping()).await] };
    let first = attempt(&target, both()).await;
    target.execute("DELETE FROM idempotent_records_outbox").await;
    assert_eq!(attempt(&target, both()).await, first);
    assert_eq!(target.count(ROWS).await, 2);
}

#[tokio::test]
async fn t20_another_path_of_a_second_attempt_loses_nothing() {
    let target = Target::create().await;
    let texts = |texts: &'static [&'static str]| {
        let target = &target;
        async move {
            for text in texts {
                publish(target, Outgoing::new("t", text.as_bytes())).await;
            }
        }
    };
    attempt(&target, texts(&["a", "b", "b"])).await;
    attempt(&target, texts(&["c", "b", "a", "b", "b"])).await;
    let count = "SELECT count(DISTINCT payload) * 100 + count(*) FROM idempotent_records_outbox";
    assert_eq!(target.count(count).await, 305, "a, b, b, b and c");
}

/// By a rollback that is asked for, by a dropped transaction, by a savepoint.
#[tokio::test]
async fn t20_what_is_rolled_back_has_no_place() {
    let target = Target::create().await;
    let outbox = Outbox::new();
    let (target, outbox) = (&target, &outbox);
    let plain = attempt(target, async { [publish(target, ping()).await, publish(target, ping()).await] }).await;
    target.execute("DELETE FROM idempotent_records_outbox").await;
    let rolled_back = attempt(target, async {
        let mut tx = target.begin().await;
        outbox.publish(&mut tx, ping()).await.unwrap();
        tx.rollback().await.unwrap();
        let mut tx = target.begin().await;
        outbox.publish(&mut tx, ping()).await.unwrap();
        drop(tx);
        let first = publish(target, ping()).await;
        let mut tx = target.begin().await;
        let mut savepoint = tx.begin().await.unwrap();
        outbox.publish(&mut savepoint, ping()).await.unwrap();
        savepoint.rollback().await.unwrap();
        let second = outbox.publish(&mut tx, ping()).await.unwrap();
        tx.commit().await.unwrap();
        [first, second]
    })
    .await;
    assert_eq!(rolled_back, plain);
    assert_eq!(target.count(ROWS).await, 2);
}

#[tokio::test]
async fn t20_equal_messages_of_one_transaction_are_two() {
    let target = Target::create().await;
    let twice = || async {
        let mut tx = target.begin().await;
        let outbox = Outbox::new();
        let ids = [outbox.publish(&mut tx, ping()).await.unwrap(), outbox.publish(&mut tx, ping()).await.unwrap()];
        tx.commit().await.unwrap();
        ids
    };
    let first = attempt(&target, twice()).await;
    assert_ne!(first[0], first[1]);
    assert_eq!(attempt(&target, twice()).await, first);
    assert_eq!(target.count(ROWS).await, 2);
}

#[tokio::test]
async fn t20_a_label_for_two_messages_fails_the_transaction() {
    let target = Target::create().await;
    attempt(&target, async {
        publish(&target, labelled("paid", "1")).await;
        let mut tx = target.begin().await;
        let outbox = Outbox::new();
        outbox.publish(&mut tx, labelled("sent", "1")).await.unwrap();
        // The same once more is no conflict.
        outbox.publish(&mut tx, labelled("paid", "1")).await.unwrap();
        let refused = outbox.publish(&mut tx, labelled("paid", "2")).await;
        assert!(matches!(&refused, Err(Error::Store(error)) if error.kind() == StoreErrorKind::Refused), "{refused:?}");
        // Whoever ignores that commits nothing.
        assert_eq!(tx.commit().await.is_ok(), COMMITS_A_CONFLICT);
    })
    .await;
    assert_eq!(target.count(ROWS).await, 1);
}

/// The run's own transaction: what it ignores cannot be committed, and is not recorded.
#[tokio::test]
async fn t20_a_run_that_ignores_a_conflict_is_not_committed() {
    let target = Target::create().await;
    let committed = target.idempotency.call("handle").key("k").commit(&target.pool, |tx| {
        Box::pin(async move {
            let outbox = Outbox::new();
            outbox.publish(tx.0, labelled("paid", "1")).await?;
            let _ = outbox.publish(tx.0, labelled("paid", "2")).await;
            Ok::<_, Error>(())
        })
    });
    assert!(committed.await.is_err());
    assert_eq!(target.count(ROWS).await, 0);
}

#[tokio::test]
async fn t20_with_a_record_in_the_same_transaction() {
    let target = Target::create().await;
    for _ in 0..2 {
        let committed = target
            .idempotency
            .call("handle")
            .key("own")
            .commit(&target.pool, |tx| Box::pin(async move { Outbox::new().publish(tx.0, ping()).await }));
        committed.await.unwrap();
        let id = in_transaction::<Db, _, Error>(&target.pool, |tx| {
            let call = target.idempotency.call("handle").key("callers");
            Box::pin(async move {
                call.in_transaction(tx.0)
                    .run(|tx| Box::pin(async move { Outbox::new().publish(tx, ping()).await }))
                    .await
            })
        });
        id.await.unwrap();
    }
    assert_eq!(target.count(ROWS).await, 2, "repeats publish nothing");
}

#[tokio::test]
async fn what_no_database_can_hold_is_refused() {
    let target = Target::create().await;
    let long = "x".repeat(1_025);
    let large = vec![0; 1024 * 1024 + 1];
    let headers = [("name".to_owned(), "x".repeat(64 * 1024))];
    let mut tx = target.begin().await;
    for outgoing in [
        Outgoing::new("", b""),
        Outgoing::new("a\0", b""),
        Outgoing::new(&long, b""),
        Outgoing { key: Some("\0"), ..Outgoing::new("t", b"") },
        Outgoing { key: Some(&long), ..Outgoing::new("t", b"") },
        Outgoing { headers: &headers, ..Outgoing::new("t", b"") },
        Outgoing::new("t", &large),
    ] {
        assert!(Outbox::new().publish(&mut tx, outgoing).await.is_err());
    }
    let fits = Outgoing { key: Some(""), ..Outgoing::new("t", &large[1..]) };
    Outbox::new().publish(&mut tx, fits).await.unwrap();
    tx.commit().await.unwrap();
}

#[tokio::test]
async fn names_of_tables_are_checked() {
    for name in ["", "a b", "a\"b", &"a".repeat(49)] {
        assert!(Outbox::new().table(name).is_err(), "{name}");
    }
    let target = Target::with_table("billing_records").await;
    let outbox = Outbox::new().table("billing_records").unwrap();
    let mut tx = target.begin().await;
    outbox.publish(&mut tx, ping()).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(target.count("SELECT count(*) FROM billing_records_outbox").await, 1);
}
