//! Dead letters, which outlive their records, and parked messages.

use std::sync::Arc;

use http::StatusCode;
use idempotent_runtime::{
    Fingerprint, Idempotency, StoreErrorKind,
    outbox::Outbox,
    store::DeadLetter,
    testing::{Fault, FaultyStore, Method},
};
use idempotent_tests::{database::Database, on_each_database};

use crate::records::abandoned;
use crate::site::{READER, REVEALER, Site, admin, record};

on_each_database!(dead_letters_are_shown, letters_that_cannot_be_read_hide_no_record, parked_messages_are_shown);

async fn dead_letters_are_shown(database: Database) {
    let idempotency = Idempotency::connect(&database.url()).await.unwrap();
    let site = Site::new(&idempotency);
    let letters = idempotency.store().dead_letters().unwrap();
    for number in 0..12_u32 {
        let fingerprint = Fingerprint::of(&number).unwrap();
        let mut letter =
            DeadLetter::new("shop%2Fbook".to_owned(), format!("m-{number}"), fingerprint, "permanent".to_owned());
        letter.error = Some("canary-error".to_owned());
        letter.payload = Some("canary-payload".into());
        letter.attempts = 3;
        letters.put(&letter).await.unwrap();
    }
    let nameless =
        DeadLetter::new("shop%2Fmail".to_owned(), String::new(), Fingerprint::of(&0).unwrap(), "no-id".to_owned());
    letters.put(&nameless).await.unwrap();
    let start = site.get(READER, "start").await.with(StatusCode::OK);
    start.shows(&[
        "shop%2Fbook",
        "permanent",
        "record?operation=shop%252Fbook&amp;key=m-0",
        "3 attempts",
        "12 bytes of error, hidden",
    ]);
    start.shows(&["shop%2Fmail", "no-id", "no key", "There are more dead letters", "idempotent dead replay"]);
    start.hides(&["canary", "Nothing needs you"]);
    site.get(REVEALER, "start").await.shows(&["canary-error"]).hides(&["canary-payload"]);
    // The record is long gone.
    let view = site.get(READER, &record("shop%2Fbook", "m-0")).await.with(StatusCode::NOT_FOUND);
    view.shows(&["Dead letters", "permanent", "14 bytes, hidden"]).hides(&["canary"]);
    site.get(REVEALER, &record("shop%2Fbook", "m-0")).await.shows(&["canary-error", "canary-payload"]);
}

/// A role may be allowed to read records, and no letters.
async fn letters_that_cannot_be_read_hide_no_record(database: Database) {
    let store = FaultyStore::new(Arc::clone(Idempotency::connect(&database.url()).await.unwrap().store()));
    let idempotency = Idempotency::new(store.clone());
    let site = Site::new(&idempotency);
    store.always(Method::Letters, Fault::FailBefore(StoreErrorKind::Refused));
    site.get(READER, "start").await.shows(&["There may be dead letters"]).hides(&["Nothing needs you"]);
    abandoned(&idempotency, "charge|order-17").await;
    site.get(READER, "start").await.with(StatusCode::OK).shows(&["order-17", "There may be dead letters"]);
    let view = site.get(READER, &record("charge", "order-17")).await.with(StatusCode::OK);
    view.shows(&["There may be dead letters", "refused as abandoned"]);
}

async fn parked_messages_are_shown(database: Database) {
    let idempotency = Idempotency::connect(&database.url()).await.unwrap();
    let outbox = Outbox::new();
    let site = match &database {
        Database::Postgres(_) => {
            let pool = sqlx::PgPool::connect(&database.url()).await.unwrap();
            let mut tx = pool.begin().await.unwrap();
            outbox.publish(&mut tx, MESSAGE).await.unwrap();
            tx.commit().await.unwrap();
            Site::of(admin(&idempotency).outbox(&outbox, &pool))
        }
        Database::Sqlite(_) => {
            let pool = sqlx::SqlitePool::connect(&database.url()).await.unwrap();
            let mut tx = pool.begin().await.unwrap();
            outbox.publish(&mut tx, MESSAGE).await.unwrap();
            tx.commit().await.unwrap();
            Site::of(admin(&idempotency).outbox(&outbox, &pool))
        }
    };
    site.get(READER, "start").await.shows(&["Nothing needs you"]).hides(&["Outbox"]);
    database.execute("UPDATE idempotent_records_outbox SET state = 'parked', error = 'canary-error'").await;
    let start = site.get(READER, "start").await;
    start.shows(&["Outbox", "<bdi>orders</bdi>", "12 bytes of error, hidden"]).hides(&["canary", "Nothing needs you"]);
    site.get(REVEALER, "start").await.shows(&["canary-error"]);
}

const MESSAGE: idempotent_runtime::outbox::Outgoing<'_> = idempotent_runtime::outbox::Outgoing {
    label: None,
    topic: "orders",
    key: Some("order-17"),
    payload: b"canary-payload",
    headers: &[],
};
