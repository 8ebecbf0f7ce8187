//! Numbers in JSON values are the same requests whichever features `serde_json` has. Built twice: here, and in
//! `arbitrary_precision/` with the feature of that name.

use std::collections::BTreeMap;

use idempotent_runtime::{Error, Fingerprint, Idempotency, Operation, idempotent};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json, value::RawValue};

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).expect(text)
}

fn assert_same<A: Serialize + ?Sized, B: Serialize + ?Sized>(value: &A, plain: &B, what: &str) {
    assert_eq!(Fingerprint::of(value).expect(what), Fingerprint::of(plain).expect(what), "{what}");
}

#[test]
fn numbers_hash_as_what_they_are() {
    for (text, plain) in [("0", 0_u64), ("4200", 4200), ("18446744073709551615", u64::MAX)] {
        assert_same(&parsed(text), &plain, text);
        assert_same(&json!(plain), &plain, text);
    }
    for (text, plain) in [("-1", -1_i64), ("-9223372036854775808", i64::MIN)] {
        assert_same(&parsed(text), &plain, text);
        assert_same(&json!(plain), &plain, text);
    }
    let floats = [
        ("1.5", 1.5),
        ("1.50", 1.5),
        ("-0.0", -0.0),
        ("-0", -0.0),
        ("1e3", 1e3),
        ("1E+3", 1e3),
        ("0.1", 0.1),
        ("18446744073709551616", 18_446_744_073_709_551_616.0),
        ("-9223372036854775809", -9_223_372_036_854_775_809.0),
        ("123456789012345678901234567890", 123_456_789_012_345_678_901_234_567_890.0),
    ];
    for (text, plain) in floats {
        assert_same(&parsed(text), &plain, text);
    }
    assert_same(&json!(0.1), &0.1, "0.1");
}

#[test]
fn values_hash_as_the_structs_that_they_are_of() {
    #[derive(Serialize)]
    struct Order {
        amount: u64,
        rates: Vec<f64>,
        delta: Option<i32>,
    }
    let order = Order { amount: 4200, rates: vec![0.5, 2.0], delta: Some(-3) };
    let value = parsed(r#"{"rates":[0.5,2.0],"delta":-3,"amount":4200}"#);
    let some: BTreeMap<&str, Value> =
        [("amount", json!(4200)), ("rates", json!([0.5, 2.0])), ("delta", json!(-3))].into();
    assert_same(&value, &some, "a value and a map");
    assert_ne!(Fingerprint::of(&value).expect("one"), Fingerprint::of(&parsed(r#"{"amount":4201}"#)).expect("another"));
    // A value has no options: the rest is the same.
    let without_option = json!({"amount": order.amount, "rates": order.rates, "delta": order.delta});
    assert_same(&value, &without_option, "a value that was made");
}

#[test]
fn raw_values_are_their_text() {
    let raw: Box<RawValue> = serde_json::from_str("[1.50, 2]").expect("JSON");
    assert_same(&raw, &BTreeMap::from([("$serde_json::private::RawValue", "[1.50, 2]")]), "raw");
}

#[idempotent(name = "numbers.by_arguments", store = handle, skip(handle))]
async fn by_arguments(handle: &Idempotency, order: Value) -> Result<String, Error> {
    Ok(order.to_string())
}

#[idempotent(name = "numbers.by_number", key = order["id"], store = handle, skip(handle))]
async fn by_number(handle: &Idempotency, order: Value) -> Result<String, Error> {
    Ok(order.to_string())
}

#[tokio::test]
async fn keys_are_the_same() {
    let handle = Idempotency::memory();
    by_number(&handle, json!({"id": 42})).await.expect("a result");
    by_number(&handle, parsed(r#"{"id":-7}"#)).await.expect("a result");
    by_arguments(&handle, json!({"amount": 4200})).await.expect("a result");
    let page = handle.list(None, None, 10).await.expect("a page");
    let mut keys: Vec<_> = page.records.iter().map(|record| record.key.as_str().to_owned()).collect();
    keys.sort();
    assert_eq!(keys[1..], ["numbers.by_number|~-7", "numbers.by_number|~42"]);
    // The hash of the arguments, as every build has it.
    let plain = Fingerprint::of(&BTreeMap::from([("order", BTreeMap::from([("amount", 4200)]))])).expect("a hash");
    let hex: String = plain.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(keys[0], format!("numbers.by_arguments|#{hex}"));
    for float in [json!({"id": 1.5}), parsed(r#"{"id":1e2}"#)] {
        assert!(matches!(by_number(&handle, float).await, Err(Error::Key(_))), "a float is no key");
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Untagged {
    Rate(f64),
    Text(String),
}

/// A replay is equal, or there is none: a feature may keep a type from being read.
#[tokio::test]
async fn replays_are_the_same_value_or_none() {
    let handle = Idempotency::memory();
    for (number, text) in
        (0..).zip(["4200", "1.10", "-0", "1e2", "123456789012345678901234567890", "0.1000000000000000055"])
    {
        let value = || parsed(&format!(r#"{{"of":[{text}]}}"#));
        let call = || handle.call("numbers.value").key(number).run(async { Ok::<_, Error>(value()) });
        let first = call().await.expect("a result");
        assert_eq!(first.to_string(), call().await.expect("the result").to_string(), "{text}");
    }
    let untagged =
        || handle.call(Operation::new("numbers.untagged")).key(1).run(async { Ok::<_, Error>(Untagged::Rate(1.5)) });
    assert_eq!(untagged().await.expect("a result"), Untagged::Rate(1.5));
    let again = untagged().await;
    assert!(
        matches!(again, Ok(Untagged::Rate(rate)) if rate == 1.5) || matches!(again, Err(Error::ResultNotKept(_))),
        "{again:?}"
    );
    // A map that looks like the feature's own struct.
    let token = || json!({"$serde_json::private::Number": "1"});
    let call = || handle.call("numbers.token").key(1).run(async { Ok::<_, Error>(token()) });
    assert_eq!(call().await.expect("a result"), token());
    let again = call().await;
    assert!(
        matches!(&again, Ok(value) if *value == token()) || matches!(again, Err(Error::ResultNotKept(_))),
        "{again:?}"
    );
}
