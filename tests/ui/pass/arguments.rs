//! Every form of an argument.
#![deny(warnings)]

use std::{borrow::Cow, collections::BTreeMap, pin::Pin};

use idempotent_runtime::{Error, idempotent};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Json<T>(T);

#[derive(Serialize)]
struct Pair {
    left: u8,
    right: u8,
}

struct Unit;

#[idempotent(skip(first))]
async fn patterns(
    (first, [second, third]): (Unit, [u8; 2]),
    Json(order): Json<String>,
    Pair { left, right: renamed }: Pair,
    all @ (_, _): (u8, u8),
    &copied: &u8,
    mut sum: u8,
) -> Result<u8, Error> {
    drop((first, order));
    sum += second + third + left + renamed + all.0 + copied;
    Ok(sum)
}

#[idempotent]
async fn mutable(mut text: String, mut number: u64) -> Result<String, Error> {
    text.push('!');
    number += 1;
    Ok(format!("{text}{number}"))
}

#[idempotent(skip(out, map))]
async fn skipped_changes(out: &mut String, map: Option<&mut BTreeMap<u8, u8>>, id: u64) -> Result<u64, Error> {
    out.push('!');
    drop(map);
    Ok(id)
}

#[idempotent]
async fn impl_trait(text: impl Into<String> + Serialize, bytes: impl AsRef<[u8]> + Serialize) -> Result<String, Error> {
    let len = bytes.as_ref().len();
    Ok(text.into() + &len.to_string())
}

#[idempotent(skip(call, dynamic, boxed))]
async fn functions(
    call: impl Fn(&str) -> usize,
    dynamic: &dyn Fn(&mut u8),
    boxed: Box<dyn FnOnce(&str) -> Pin<Box<dyn Future<Output = u8>>>>,
    id: u64,
) -> Result<usize, Error> {
    let mut byte = 1;
    dynamic(&mut byte);
    Ok(call("a") + usize::from(boxed("b").await) + usize::from(byte) + usize::try_from(id).unwrap_or(0))
}

#[idempotent]
async fn borrowed(text: &str, cow: Cow<'_, str>, slice: &[Option<&str>], nested: &&u8) -> Result<usize, Error> {
    Ok(text.len() + cow.len() + slice.len() + usize::from(**nested))
}

#[idempotent]
async fn unit((): (), id: u64) -> Result<u64, Error> {
    Ok(id)
}

#[idempotent]
async fn unit_argument(nothing: (), id: u64) -> Result<u64, Error> {
    let () = nothing;
    Ok(id)
}

#[idempotent]
async fn raw(r#type: u8, r#match: u8) -> Result<u8, Error> {
    Ok(r#type + r#match)
}

#[idempotent(skip(r#type))]
async fn raw_skipped(r#type: Unit, id: u8) -> Result<u8, Error> {
    drop(r#type);
    Ok(id)
}

#[idempotent(key = id)]
async fn unused(_context: &str, id: u8, #[allow(unused_variables)] other: u8) -> Result<u8, Error> {
    Ok(id)
}

#[idempotent]
async fn conditional(
    id: u8,
    #[cfg(any())] absent: Absent,
    #[cfg(all())] present: u8,
    #[cfg(not(any()))]
    #[cfg(all())]
    twice: u8,
) -> Result<u8, Error> {
    Ok(id + present + twice)
}

#[idempotent(skip(guard), detach)]
async fn detached(guard: Guard, id: u8) -> Result<u8, Error> {
    Ok(id)
}

struct Guard;

impl Drop for Guard {
    fn drop(&mut self) {}
}

fn main() {
    drop(patterns((Unit, [1, 2]), Json(String::new()), Pair { left: 1, right: 2 }, (1, 2), &1, 2));
    drop(mutable(String::new(), 1));
    drop(skipped_changes(&mut String::new(), None, 1));
    drop(impl_trait("a", "b"));
    drop(functions(|text| text.len(), &|_| (), Box::new(|_| Box::pin(async { 1 })), 1));
    drop(borrowed("", "".into(), &[], &&1));
    drop((unit((), 1), unit_argument((), 1), raw(1, 2), raw_skipped(Unit, 1), unused("", 1, 2)));
    drop((conditional(1, 2, 3), detached(Guard, 1)));
}
