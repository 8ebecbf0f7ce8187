//! Listings of the library, with filters, on every store.

use std::{collections::BTreeSet, time::Duration};

use idempotent_runtime::{
    Error, Idempotency, Operation,
    operator::{Filter, StateFilter},
};
use idempotent_tests::{backend::Backend, on_every_store};

async fn keys(idempotency: &Idempotency, filter: Filter) -> BTreeSet<String> {
    let mut records = idempotency.operator().list(filter);
    let mut keys = BTreeSet::new();
    while let Some(page) = records.next_page().await.unwrap() {
        assert!(!page.is_empty());
        keys.extend(page.iter().map(|record| record.key.as_str().to_owned()));
    }
    assert!(records.next_page().await.unwrap().is_none(), "the end stays the end");
    keys
}

async fn a_listing_goes_through_all_pages_and_no_further(backend: Backend) {
    let idempotency = Idempotency::new(backend.store().await);
    for number in 0..1_100 {
        let operation = Operation::new(if number % 10 == 0 { "tenth" } else { "other" });
        let ttl = Duration::from_hours(if number < 100 { 1 } else { 24 });
        let key = format!("k{number}");
        idempotency.call(operation.ttl(ttl)).key(key).run(async { Ok::<_, Error>(()) }).await.unwrap();
    }
    assert_eq!(keys(&idempotency, Filter::new()).await.len(), 1_100);
    assert_eq!(keys(&idempotency, Filter::new().operation("tenth")).await.len(), 110);
    assert_eq!(keys(&idempotency, Filter::new().operation("none")).await.len(), 0);
    assert_eq!(keys(&idempotency, Filter::new().limit(0)).await.len(), 0);
    let limited = keys(&idempotency, Filter::new().operation("other").limit(700)).await.len();
    // A record can be listed twice while Redis grows its table.
    assert!((690..=700).contains(&limited), "{limited}");
    let soon = Filter::new().expires_within(Duration::from_hours(2));
    assert_eq!(keys(&idempotency, soon.clone()).await.len(), 100);
    assert_eq!(keys(&idempotency, soon.state(StateFilter::Ok)).await.len(), 100);
    assert_eq!(keys(&idempotency, Filter::new().state(StateFilter::Error)).await.len(), 0);
}

on_every_store!(a_listing_goes_through_all_pages_and_no_further);

async fn each_state_has_its_word(backend: Backend) {
    let idempotency = Idempotency::new(backend.store().await);
    crate::fixture::one_of_each(&idempotency, &backend).await;
    for state in StateFilter::ALL {
        let expected: &[&str] = match state {
            StateFilter::Failed => &["failed", "suspended"],
            _ => &[state.as_str()],
        };
        let found = keys(&idempotency, Filter::new().operation("each").state(state)).await;
        let expected: BTreeSet<_> = expected.iter().map(|key| format!("each|{key}")).collect();
        assert_eq!(found, expected);
    }
}

on_every_store!(each_state_has_its_word);
