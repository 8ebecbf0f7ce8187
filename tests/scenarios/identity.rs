//! Which calls are the same call.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    marker::PhantomData,
    sync::Mutex,
};

use idempotent_runtime::{Disposition, Error, Idempotency, KeyError, idempotent, with_disposition};
use serde::Serialize;

use crate::support::{Backend, Effects};
use idempotent_tests::on_every_store;

on_every_store! {
    s12_a_body_that_changes_its_input_completes_the_key_it_claimed,
    s13_order_of_fields_maps_and_sets_does_not_matter,
    s13_a_skipped_argument_does_not_matter,
    s15_keys_that_look_empty_are_keys,
    s15_composite_keys_are_not_their_concatenation,
    s15_a_missing_key_is_refused,
}

#[idempotent(name = "identity.grow", store = handle, skip(handle, effects))]
async fn grow(handle: &Idempotency, effects: &Effects, basket: &Mutex<Vec<u32>>) -> Result<u64, Error> {
    basket.lock().expect("no panic").push(99);
    tokio::task::yield_now().await;
    Ok(effects.happen())
}

async fn s12_a_body_that_changes_its_input_completes_the_key_it_claimed(backend: Backend) {
    let caller = backend.caller().await;
    let effects = Effects::new();
    let basket = Mutex::new(vec![1, 2]);
    assert_eq!(grow(&caller.idempotency, &effects, &basket).await.expect("a result"), 1);
    assert_eq!(*basket.lock().expect("no panic"), [1, 2, 99]);

    // The request as it was sent.
    let (answer, disposition) = with_disposition(grow(&caller.idempotency, &effects, &Mutex::new(vec![1, 2]))).await;
    assert_eq!((answer.expect("a result"), disposition), (1, Disposition::Replayed));
    // What the body made of it is another request.
    assert_eq!(grow(&caller.idempotency, &effects, &basket).await.expect("a result"), 2);
    let page = caller.idempotency.list(Some("identity.grow"), None, 100).await.expect("a page");
    assert_eq!(page.records.len(), 2);
}

#[derive(Serialize)]
struct Order {
    id: u32,
    lines: HashMap<String, u32>,
    labels: HashSet<String>,
    note: Option<String>,
}

#[derive(Serialize)]
#[serde(rename = "Order")]
struct Reordered {
    note: Option<&'static str>,
    labels: HashSet<String>,
    lines: BTreeMap<&'static str, u64>,
    id: u64,
}

async fn s13_order_of_fields_maps_and_sets_does_not_matter(backend: Backend) {
    let caller = backend.caller().await;
    let effects = Effects::new();
    let body = || async { Ok::<_, Error>(effects.happen()) };
    let names = ["b", "a", "d", "c", "e", "h", "g", "f"];
    for _ in 0..8 {
        // Each map has its own random order.
        let order = Order {
            id: 13,
            lines: names.iter().zip(1..).map(|(name, count)| ((*name).to_owned(), count)).collect(),
            labels: names.iter().map(|name| (*name).to_owned()).collect(),
            note: None,
        };
        let call = caller.idempotency.call("identity.place").key("order-13").arguments(&order).run(body());
        assert_eq!(call.await.expect("a result"), 1);
    }
    let reordered = Reordered {
        note: None,
        labels: names.iter().rev().map(|name| (*name).to_owned()).collect(),
        lines: names.iter().zip(1..).map(|(name, count)| (*name, count)).collect(),
        id: 13,
    };
    let call = caller.idempotency.call("identity.place").key("order-13").arguments(&reordered).run(body());
    assert_eq!(call.await.expect("a result"), 1);
    let other = Reordered { note: Some(""), ..reordered };
    let call = caller.idempotency.call("identity.place").key("order-13").arguments(&other).run(body());
    assert!(matches!(call.await, Err(Error::Mismatch { .. })));
}

#[idempotent(name = "identity.traced", store = handle, skip(handle, effects, trace_id))]
async fn traced(handle: &Idempotency, effects: &Effects, order: u32, trace_id: &str) -> Result<String, Error> {
    effects.happen();
    Ok(format!("{order} in {trace_id}"))
}

async fn s13_a_skipped_argument_does_not_matter(backend: Backend) {
    let caller = backend.caller().await;
    let effects = Effects::new();
    for trace_id in ["first", "second", ""] {
        let answer = traced(&caller.idempotency, &effects, 13, trace_id).await;
        assert_eq!(answer.expect("a result"), "13 in first");
    }
    assert_eq!(effects.count(), 1);
    assert_eq!(traced(&caller.idempotency, &effects, 14, "first").await.expect("a result"), "14 in first");
}

async fn s15_keys_that_look_empty_are_keys(backend: Backend) {
    let caller = backend.caller().await;
    let effects = Effects::new();
    let mut results = HashSet::new();
    macro_rules! call {
        ($($key:expr),* $(,)?) => {$(
            let call = || caller.idempotency.call("identity.key").key(&$key).run(async { Ok::<_, Error>(effects.happen()) });
            let first = call().await.expect("a result");
            assert!(results.insert(first), "{} shares a record", stringify!($key));
            assert_eq!(call().await.expect("a result"), first);
        )*};
    }
    call!(
        0,
        false,
        true,
        1,
        -1,
        "0",
        "false",
        "~0",
        ("0", 0),
        (0, "0"),
        "%",
        ",",
        "\0",
        "\n",
        "|",
        "{}",
        "*",
        u64::MAX,
        i64::MIN,
        u128::MAX,
    );
    assert_eq!(effects.count(), 20);
    // An integer is a value, whatever its width.
    let call = caller.idempotency.call("identity.key").key(0_u8).run(async { Ok::<_, Error>(effects.happen()) });
    assert_eq!(call.await.expect("a result"), 1);
}

#[idempotent(key = (tenant, event), name = "identity.pair", store = handle, skip(handle, effects))]
async fn pair(handle: &Idempotency, effects: &Effects, tenant: &str, event: &str) -> Result<u64, Error> {
    Ok(effects.happen())
}

#[idempotent(key = "{tenant}:{event}", name = "identity.template", store = handle, skip(handle, effects))]
async fn template(handle: &Idempotency, effects: &Effects, tenant: &str, event: &str) -> Result<u64, Error> {
    Ok(effects.happen())
}

async fn s15_composite_keys_are_not_their_concatenation(backend: Backend) {
    let caller = backend.caller().await;
    let pairs =
        [("a:b", "c"), ("a", "b:c"), ("a,b", "c"), ("a", "b,c"), ("~", "abc"), ("abc", "~"), (")(", "a"), ("a", ")(")];
    let effects = Effects::new();
    for (number, (tenant, event)) in (1..).zip(pairs) {
        assert_eq!(pair(&caller.idempotency, &effects, tenant, event).await.expect("a result"), number);
    }
    for (number, (tenant, event)) in (1..).zip(pairs) {
        assert_eq!(pair(&caller.idempotency, &effects, tenant, event).await.expect("a result"), number);
    }
    let effects = Effects::new();
    for (number, (tenant, event)) in (1..).zip(pairs) {
        assert_eq!(template(&caller.idempotency, &effects, tenant, event).await.expect("a result"), number);
    }
    for (number, (tenant, event)) in (1..).zip(pairs) {
        assert_eq!(template(&caller.idempotency, &effects, tenant, event).await.expect("a result"), number);
    }
}

async fn s15_a_missing_key_is_refused(backend: Backend) {
    let caller = backend.caller().await;
    macro_rules! refused {
        ($($key:expr),* $(,)?) => {$(
            let body = async { panic!("a run without a key") };
            let call = caller.idempotency.call("identity.key").key($key).run::<(), Error, _>(body);
            assert!(matches!(call.await, Err(Error::Key(KeyError::Missing))), "{}", stringify!($key));
        )*};
    }
    refused!(
        None::<u32>,
        (),
        (1, None::<u32>),
        "",
        String::new(),
        Some(""),
        ("acme", ""),
        ["a", ""],
        serde_json::json!(""),
        [0_u8; 0],
        Vec::<u32>::new(),
        Some(Vec::<u32>::new()),
        serde_json::json!([]),
        Unit,
        Fieldless {},
        PhantomData::<u32>,
    );
    let effects = Effects::new();
    for (tenant, event) in [("", "abc"), ("abc", ""), ("", "")] {
        let answer = pair(&caller.idempotency, &effects, tenant, event).await;
        assert!(matches!(answer, Err(Error::Key(KeyError::Missing))), "{answer:?}");
        let answer = template(&caller.idempotency, &effects, tenant, event).await;
        assert!(matches!(answer, Err(Error::Key(KeyError::Missing))), "{answer:?}");
    }
    for ids in [vec![], vec![7]] {
        let is_empty = ids.is_empty();
        for answer in [of_ids(&caller.idempotency, &ids).await, of_ids_by_template(&caller.idempotency, &ids).await] {
            match answer {
                Err(Error::Key(KeyError::Missing)) => assert!(is_empty),
                answer => assert_eq!((answer.expect("a result"), is_empty), (1, false)),
            }
        }
    }
    assert_eq!(effects.count(), 0);
}

#[derive(Serialize)]
struct Unit;

#[derive(Serialize)]
struct Fieldless {}

#[idempotent(name = "identity.of_ids", key = ids, store = idempotency, skip(idempotency))]
async fn of_ids(idempotency: &Idempotency, ids: &[u32]) -> Result<usize, Error> {
    Ok(ids.len())
}

#[idempotent(name = "identity.of_ids_by_template", key = "order:{ids}", store = idempotency, skip(idempotency))]
async fn of_ids_by_template(idempotency: &Idempotency, ids: &[u32]) -> Result<usize, Error> {
    Ok(ids.len())
}
