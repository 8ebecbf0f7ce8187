//! A result that borrows from the text that it is decoded from.

use idempotent_runtime::{Error, idempotent};

#[derive(serde::Serialize, serde::Deserialize)]
struct Receipt<'a> {
    id: &'a str,
}

#[idempotent]
async fn charge<'a>(id: &'a str) -> Result<Receipt<'a>, Error> {
    Ok(Receipt { id })
}

fn main() {
    drop(charge("1"));
}
