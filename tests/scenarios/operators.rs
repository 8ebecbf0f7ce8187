//! Operators reach every record, whichever way its key was made.

use idempotent_runtime::{Error, Idempotency, RecordKey, idempotent};

use crate::support::Backend;
use idempotent_tests::on_every_store;

on_every_store! {
    the_key_of_a_listed_record_can_be_given_back,
    a_listing_takes_any_name_of_an_operation,
}

#[idempotent(name = "operators.value", key = order, store = handle, skip(handle))]
async fn value(handle: &Idempotency, order: &str) -> Result<(), Error> {
    Ok(())
}

#[idempotent(name = "operators.tuple", key = (tenant, order), store = handle, skip(handle))]
async fn tuple(handle: &Idempotency, tenant: &str, order: u32) -> Result<(), Error> {
    Ok(())
}

#[idempotent(name = "operators.template", key = "{tenant}/order:{order}", store = handle, skip(handle))]
async fn template(handle: &Idempotency, tenant: &str, order: u32) -> Result<(), Error> {
    Ok(())
}

#[idempotent(name = "operators.hash", store = handle, skip(handle))]
async fn hash(handle: &Idempotency, tenant: &str, order: u32) -> Result<(), Error> {
    Ok(())
}

async fn the_key_of_a_listed_record_can_be_given_back(backend: Backend) {
    let caller = backend.caller().await;
    let handle = &caller.idempotency;
    value(handle, "a|b (c) #1%").await.expect("a result");
    tuple(handle, "a,b", 17).await.expect("a result");
    template(handle, "a)/order:(b", 17).await.expect("a result");
    hash(handle, "a", 17).await.expect("a result");

    let operator = backend.caller().await.idempotency;
    let page = operator.list(None, None, 100).await.expect("a page");
    let mut operations: Vec<_> = page.records.iter().map(|record| record.key.operation()).collect();
    operations.sort_unstable();
    assert_eq!(operations, ["operators.hash", "operators.template", "operators.tuple", "operators.value"]);
    for listed in &page.records {
        let key = &listed.key;
        let typed: RecordKey = key.as_str().parse().expect("the text of a key");
        assert_eq!(&typed, key);
        let inspected = operator.inspect_record(&typed).await.expect("an answer").expect("a record");
        assert_eq!((&inspected.key, inspected.fingerprint), (key, listed.fingerprint));
        assert!(operator.forget_record(&typed).await.expect("an answer"), "there was a record");
        assert!(!operator.forget_record(key).await.expect("an answer"), "it is gone");
        assert_eq!(operator.inspect_record(key).await.expect("an answer"), None);
    }

    // A key that is a value can be given as the function gets it.
    tuple(handle, "a,b", 17).await.expect("a result");
    let record = operator.inspect("operators.tuple", &("a,b", 17)).await.expect("an answer").expect("a record");
    assert_eq!(record.key.key(), "a%2Cb,~17");
    assert!(operator.forget("operators.tuple", &("a,b", 17)).await.expect("an answer"));
}

/// PostgreSQL takes no U+0000 in a text, and a name has other characters in its records than in its calls.
async fn a_listing_takes_any_name_of_an_operation(backend: Backend) {
    let handle = backend.caller().await.idempotency;
    let names = ["plain", "a b", "größe", "nul\0", "x|y"];
    for name in names {
        handle.call(name).key("k").run(async { Ok::<_, Error>(()) }).await.expect("a result");
    }
    for name in names {
        let page = handle.list(Some(name), None, 10).await.expect("a page");
        let [record] = &page.records[..] else { panic!("{page:?} of {name:?}") };
        let again = handle.list(Some(record.key.operation()), None, 10).await.expect("a page");
        assert_eq!(again.records.len(), 1, "{name:?}");
    }
    assert!(handle.list(Some("\0"), None, 10).await.expect("a page").records.is_empty());
}
