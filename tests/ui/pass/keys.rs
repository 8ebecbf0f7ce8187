//! A key is any expression over the arguments, and moves nothing.
#![deny(warnings)]

use idempotent_runtime::{Error, idempotent};
use serde::Serialize;

#[derive(Clone, Serialize)]
struct Event {
    id: String,
    items: Vec<u32>,
}

impl Event {
    fn key(&self) -> &str {
        &self.id
    }
}

fn pair<A: Copy, B: Copy>(a: A, b: B) -> (A, B) {
    (a, b)
}

#[idempotent(key = event.id)]
async fn field(event: Event) -> Result<Event2, Error> {
    Ok(Event2 { id: event.id })
}

#[idempotent(key = &event.id)]
async fn reference(event: Event) -> Result<String, Error> {
    Ok(event.id)
}

#[idempotent(key = event.key())]
async fn method(event: Event) -> Result<String, Error> {
    Ok(event.id)
}

// Neither string moves into the key.
#[idempotent(key = (tenant, event.id, (event.items[0], attempt)))]
async fn tuple(tenant: String, event: Event, attempt: u8) -> Result<String, Error> {
    Ok(format!("{tenant}{}{attempt}", event.id))
}

#[idempotent(key = ((tenant)))]
async fn parentheses(tenant: String) -> Result<String, Error> {
    Ok(tenant)
}

#[idempotent(key = pair::<u8, u16>(a, b))]
async fn turbofish(a: u8, b: u16) -> Result<u16, Error> {
    Ok(u16::from(a) + b)
}

#[idempotent(key = format!("{a}:{b}").as_str())]
async fn temporary(a: u8, b: u16) -> Result<u16, Error> {
    Ok(u16::from(a) + b)
}

#[idempotent(key = if a > 3 { b } else { b + 1 })]
async fn conditional(a: u8, b: u16) -> Result<u16, Error> {
    Ok(u16::from(a) + b)
}

#[idempotent(key = u32::from(a) + b)]
async fn arithmetic(a: u8, b: u32) -> Result<u32, Error> {
    Ok(u32::from(a) + b)
}

#[idempotent(key = *a)]
async fn dereferenced(a: &u64) -> Result<u64, Error> {
    Ok(*a)
}

#[idempotent(key = text.trim().parse::<u64>().map_err(Failure::Number)?)]
async fn fallible(text: &str) -> Result<u64, Failure> {
    Ok(text.len() as u64)
}

#[idempotent(key = event.id, skip(event))]
async fn over_a_skipped_argument(event: Event) -> Result<String, Error> {
    Ok(event.id)
}

#[idempotent(key = "order:{order_id}/{part}")]
async fn template(order_id: String, part: u8) -> Result<String, Error> {
    Ok(format!("{order_id}{part}"))
}

#[idempotent(key = "{part}{order_id}{{}}")]
async fn holes_side_by_side(order_id: &str, part: u8) -> Result<String, Error> {
    Ok(format!("{order_id}{part}"))
}

#[idempotent(key = r#"{type}"#)]
async fn template_over_a_raw_name(r#type: &str) -> Result<String, Error> {
    Ok(r#type.to_owned())
}

#[derive(Serialize, serde::Deserialize)]
struct Event2 {
    id: String,
}

#[derive(Debug)]
enum Failure {
    Number(std::num::ParseIntError),
    Idempotency(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Idempotency(error)
    }
}

fn main() {
    let event = Event { id: String::new(), items: vec![1] };
    drop((field(event.clone()), reference(event.clone()), method(event.clone())));
    drop((tuple(String::new(), event.clone(), 1), parentheses(String::new()), turbofish(1, 2), temporary(1, 2)));
    drop((conditional(1, 2), arithmetic(1, 2), dereferenced(&1), fallible("1"), over_a_skipped_argument(event)));
    drop((template(String::new(), 1), holes_side_by_side("", 1), template_over_a_raw_name("")));
    match Failure::from(Error::ClaimLost) {
        Failure::Number(_) | Failure::Idempotency(_) => {}
    }
}
