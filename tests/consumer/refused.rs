//! Inboxes that cannot be made, and stores that fail.

use std::time::Duration;

use idempotent_runtime::{
    Idempotency, SetupError,
    consumer::{Inbox, InboxBuilder, Settled},
    testing::{Fault, Method, SettleKind},
};
use idempotent_tests::{database::Database, on_each_database};

use crate::desk::{Desk, Failed, booked, broker};

on_each_database! {
    t14_a_store_that_is_down_at_the_claim,
    t14_a_store_that_is_down_at_the_suspension,
    t14_a_store_that_is_down_at_the_completion,
}

#[test]
fn settings_that_cannot_work_are_refused() {
    let builder = |group: &str| Inbox::<Failed>::builder(Idempotency::memory(), group, "book");
    let refused = |builder: InboxBuilder<Failed>| match builder.build() {
        Err(SetupError::Setting(what)) => what,
        other => panic!("{other:?}"),
    };
    assert!(builder("billing").build().is_ok());
    for builder in [
        builder(""),
        builder("a/b"),
        builder("billing").ttl(Duration::from_secs(59 * 60)),
        builder("billing").lease(Duration::ZERO),
        builder("billing").lease(Duration::from_secs(9 * 24 * 60 * 60)),
        builder("billing").max_attempts(0),
        builder("billing").backoff(Duration::from_secs(9 * 24 * 60 * 60)),
    ] {
        assert!(!refused(builder).is_empty());
    }
}

async fn t14_a_store_that_is_down_at_the_claim(database: Database) {
    let (desk, broker) = (Desk::open(&database).await, broker());
    desk.store.always(Method::Claim, Fault::LOST_REQUEST);
    for _ in 0..2 {
        let settled = desk.book(broker.deliver().unwrap()).await;
        assert!(matches!(settled, Settled::Busy { .. }), "{settled:?}");
    }
    assert_eq!(broker.count(SettleKind::Ack), 0);
    desk.store.heal();
    assert!(matches!(desk.book(broker.deliver().unwrap()).await, Settled::Done));
    assert_eq!(database.number("SELECT attempt FROM booked").await, 1);
}

async fn t14_a_store_that_is_down_at_the_suspension(database: Database) {
    let desk = Desk::open_with(&database, |inbox| inbox.lease(Duration::from_millis(500))).await;
    let broker = broker();
    desk.store.always(Method::Suspend, Fault::LOST_REQUEST);
    let settled = desk.handle(broker.deliver().unwrap(), |_| Box::pin(async { Err(Failed::Now) })).await;
    assert!(matches!(settled, Settled::Retried { attempt: 1, .. }), "{settled:?}");
    assert_eq!(broker.count(SettleKind::Ack), 0);
    // Its lease lapses. Nobody had to do anything about it.
    let settled = loop {
        match desk.book(broker.deliver().unwrap()).await {
            Settled::Busy { .. } => tokio::time::sleep(Duration::from_millis(20)).await,
            settled => break settled,
        }
    };
    assert!(matches!(settled, Settled::Done), "{settled:?}");
    assert_eq!(booked(&database, "m").await, 1);
}

/// Effects elsewhere. What ran without a record is not acknowledged.
async fn t14_a_store_that_is_down_at_the_completion(database: Database) {
    let desk = Desk::open_with(&database, |inbox| inbox.lease(Duration::from_millis(300))).await;
    let broker = broker();
    desk.store.always(Method::Complete, Fault::LOST_REQUEST);
    let settled = desk.inbox.handle(broker.deliver().unwrap(), async |_, _| Ok(())).await;
    assert!(matches!(settled, Settled::Retried { .. }), "{settled:?}");
    assert_eq!(broker.count(SettleKind::Ack), 0);
    desk.store.heal();
    let settled = loop {
        match desk.inbox.handle(broker.deliver().unwrap(), async |_, _| Ok(())).await {
            Settled::Busy { .. } => tokio::time::sleep(Duration::from_millis(20)).await,
            settled => break settled,
        }
    };
    assert!(matches!(settled, Settled::Done), "{settled:?}");
    assert!(broker.is_empty());
}
