//! Type parameters, const parameters, lifetimes and where clauses.
#![deny(warnings)]

use std::{borrow::Cow, fmt::Display, marker::PhantomData};

use idempotent_runtime::{Error, idempotent};
use serde::{Serialize, de::DeserializeOwned};

#[idempotent(name = "generics.any", key = id)]
async fn any<T, E>(id: u64, value: T) -> Result<T, E>
where
    T: Serialize + DeserializeOwned,
    E: From<Error>,
{
    let _ = id;
    Ok(value)
}

#[idempotent(name = "generics.bytes")]
async fn bytes<const N: usize>(bytes: [u8; N]) -> Result<usize, Error>
where
    [u8; N]: Serialize,
{
    Ok(bytes.len())
}

#[idempotent]
async fn lifetimes<'a, 'b: 'a>(a: &'a str, b: &'b str) -> Result<usize, Error> {
    let longest: &'a str = if a.len() > b.len() { a } else { b };
    Ok(longest.len())
}

#[idempotent]
async fn early<'a>(list: &'a [&'a str]) -> Result<Cow<'a, str>, Error> {
    Ok(Cow::Borrowed(list[0]))
}

#[idempotent]
async fn elided(text: &str) -> Result<Cow<'_, str>, Error> {
    Ok(text.into())
}

#[idempotent(skip(list))]
async fn exclusive<'a>(list: &'a mut Vec<&'a str>, id: u64) -> Result<u64, Error> {
    fn whole<'a>(list: &'a mut Vec<&'a str>) -> usize {
        list.len()
    }
    Ok(whole(list) as u64 + id)
}

struct Holder<T>(PhantomData<T>);

impl<T: Display + Serialize> Holder<T> {
    #[idempotent(name = "holder.show", errors = keep)]
    async fn show<U>(&self, value: &T, other: Option<U>) -> Result<String, Kept>
    where
        U: Display + Serialize,
    {
        Ok(other.map_or_else(|| value.to_string(), |other| other.to_string()))
    }
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Kept;

impl From<Error> for Kept {
    fn from(_: Error) -> Self {
        Self
    }
}

fn main() {
    drop((any::<_, Error>(1, 2), bytes([1, 2]), lifetimes("", ""), early(&[""]), elided("")));
    drop(exclusive(&mut vec![], 1));
    drop(Holder(PhantomData).show(&1, Some("")));
}
