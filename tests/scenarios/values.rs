//! A replay equals what the first caller got.

use std::{
    collections::{BTreeMap, HashMap},
    ffi::CString,
    fmt::Debug,
};

use idempotent_runtime::{Disposition, Error, NotKept, with_disposition};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::support::{Backend, Caller};
use idempotent_tests::on_every_store;

on_every_store! {
    s18_values_that_look_empty_are_replayed,
    s18_integers_are_replayed,
    s18_floats_are_replayed_to_the_bit,
    s18_values_with_parts_are_replayed,
    s18_what_would_come_back_changed_is_not_replayed,
}

/// Three handles on one store: who calls first, who repeats in the same process, who repeats in another.
struct Callers {
    callers: [Caller; 3],
    next_key: u32,
}

impl Callers {
    async fn of(backend: &Backend) -> Self {
        let first = backend.caller().await;
        let repeater = first.clone();
        Self { callers: [first, repeater, backend.caller().await.without_peeking()], next_key: 0 }
    }

    /// Has a body return the value and hands all answers to `check`.
    async fn answers<T: Serialize + DeserializeOwned + Clone>(&mut self, value: T, check: impl Fn(T)) {
        self.next_key += 1;
        let expected = [Disposition::Executed, Disposition::Replayed, Disposition::Replayed];
        for (caller, expected) in self.callers.iter().zip(expected) {
            let body = async { Ok::<_, Error>(value.clone()) };
            let call = caller.idempotency.call("values.value").key(self.next_key).run(body);
            let (answer, disposition) = with_disposition(call).await;
            assert_eq!(disposition, expected);
            check(answer.expect("a result"));
        }
    }

    async fn same<T: Serialize + DeserializeOwned + Clone + PartialEq + Debug>(&mut self, value: T) {
        let expected = value.clone();
        self.answers(value, |answer| assert_eq!(answer, expected)).await;
    }
}

async fn s18_values_that_look_empty_are_replayed(backend: Backend) {
    let mut callers = Callers::of(&backend).await;
    callers.same(()).await;
    callers.same(0).await;
    callers.same(false).await;
    callers.same(String::new()).await;
    callers.same(Vec::<u32>::new()).await;
    callers.same(BTreeMap::<String, u32>::new()).await;
    callers.same(None::<u32>).await;
    callers.same(Some(0)).await;
    callers.same(serde_json::Value::Null).await;
    callers.same(Nothing).await;
    callers.same('\0').await;
}

async fn s18_integers_are_replayed(backend: Backend) {
    let mut callers = Callers::of(&backend).await;
    callers.same([u64::MAX, (1 << 53) + 1, 0]).await;
    callers.same([i64::MIN, i64::MAX, -1]).await;
    callers.same([i128::MIN, i128::MAX, i128::from(u64::MAX) + 1]).await;
    callers.same([u128::MAX, 0]).await;
}

async fn s18_floats_are_replayed_to_the_bit(backend: Backend) {
    let mut callers = Callers::of(&backend).await;
    let edges = [
        0.0,
        -0.0,
        f64::MIN,
        f64::MAX,
        f64::MIN_POSITIVE,
        5e-324,
        -5e-324,
        f64::EPSILON,
        0.1 + 0.2,
        1e23,
        2.0_f64.powi(53),
    ];
    for value in edges {
        callers.answers(value, |answer: f64| assert_eq!(answer.to_bits(), value.to_bits(), "{value}")).await;
    }
    for value in [0.1_f32, -0.0, f32::MAX, f32::MIN_POSITIVE, 1e-45] {
        callers.answers(value, |answer: f32| assert_eq!(answer.to_bits(), value.to_bits(), "{value}")).await;
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Nothing;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Shape {
    Empty,
    One(u64),
    Pair(i8, String),
    Named { id: u128, inner: Box<Shape> },
}

async fn s18_values_with_parts_are_replayed(backend: Backend) {
    let mut callers = Callers::of(&backend).await;
    callers.same(vec![Shape::Empty, Shape::One(u64::MAX), Shape::Pair(-128, "\u{1F980}\0\"\\\n".to_owned())]).await;
    callers.same(Shape::Named { id: u128::MAX, inner: Box::new(Shape::Empty) }).await;
    callers.same((0..=u8::MAX).collect::<Vec<u8>>()).await;
    callers.same(CString::new((1..=u8::MAX).collect::<Vec<u8>>()).expect("no zero")).await;
    callers
        .same(HashMap::from([(
            1_u64,
            vec![None, Some("")].into_iter().map(|v| v.map(str::to_owned)).collect::<Vec<_>>(),
        )]))
        .await;
    callers.same("x".repeat(1_000_000)).await;
    callers.same(Ok::<u32, String>(0)).await;
    callers.same(Err::<u32, String>(String::new())).await;
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Answer {
    Charged { id: u64 },
    Refunded { id: u64, refund: u64 },
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "type")]
enum Event {
    Totals { by_account: BTreeMap<u64, i64> },
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Statement {
    total: u8,
    #[serde(flatten)]
    by_account: BTreeMap<u64, i64>,
}

/// The first caller has its value; the others are told, and the body does not run again.
async fn s18_what_would_come_back_changed_is_not_replayed(backend: Backend) {
    let mut callers = Callers::of(&backend).await;
    callers.unavailable(f64::NAN).await;
    callers.unavailable(f64::INFINITY).await;
    callers.unavailable(vec![1.0, f32::NEG_INFINITY]).await;
    callers.unavailable(Some(None::<u32>)).await;
    callers.unavailable(vec![Some(())]).await;
    // An earlier variant would be read, whose fields are all there.
    callers.unavailable(Answer::Refunded { id: 1, refund: 2 }).await;
    callers.answers(Answer::Charged { id: 1 }, |answer| assert!(matches!(answer, Answer::Charged { id: 1 }))).await;
    // serde writes these, and cannot read them.
    callers.unavailable(Event::Totals { by_account: [(1, 2)].into() }).await;
    callers.unavailable(Statement { total: 1, by_account: [(1, 2)].into() }).await;
}

impl Callers {
    async fn unavailable<T: Serialize + DeserializeOwned + Clone + Debug>(&mut self, value: T) {
        self.next_key += 1;
        let [first, repeaters @ ..] = &self.callers;
        let body = async { Ok::<_, Error>(value) };
        first.idempotency.call("values.value").key(self.next_key).run(body).await.expect("its own value");
        for repeater in repeaters {
            let body = async { panic!("a second run") };
            let call = repeater.idempotency.call("values.value").key(self.next_key).run::<T, Error, _>(body);
            let answer = call.await;
            assert!(matches!(answer, Err(Error::ResultNotKept(NotKept::NotSerializable))), "{answer:?}");
        }
    }
}
