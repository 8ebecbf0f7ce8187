//! The body may use and drop its arguments as in a plain `async fn`.
#![deny(warnings)]

use idempotent_runtime::{Error, idempotent};
use serde::Serialize;

#[derive(Serialize)]
struct Order {
    id: String,
    lines: Vec<String>,
}

#[idempotent(key = order.id)]
async fn takes_apart(order: Order) -> Result<Vec<String>, Error> {
    let Order { id, mut lines } = order;
    std::thread::spawn(move || drop(id));
    lines.push(String::new());
    Ok(lines)
}

#[idempotent(key = (id, &tags))]
async fn moves_in_a_branch(id: String, tags: Vec<String>) -> Result<String, Error> {
    if tags.is_empty() { Ok(id) } else { Ok(tags.concat()) }
}

fn main() {
    drop(takes_apart(Order { id: String::new(), lines: vec![] }));
    drop(moves_in_a_branch(String::new(), vec![]));
}
