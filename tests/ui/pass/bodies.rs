//! `return`, `?`, inference and divergence are as in a plain `async fn`.
#![deny(warnings)]

use idempotent_runtime::{Error, idempotent};

type Boxed = Box<dyn std::error::Error + Send + Sync>;

#[idempotent]
async fn conversions(text: &str) -> Result<String, Boxed> {
    let number: u64 = text.parse()?;
    if number > 3 {
        return Err("too large".into());
    }
    if number > 2 {
        return Err(Box::new(std::fmt::Error));
    }
    Err(std::fmt::Error)?;
    Ok("small".into())
}

#[idempotent]
async fn question_mark_last(text: &str) -> Result<u64, Boxed> {
    Ok(text.parse()?)
}

#[idempotent]
async fn collected(text: &str) -> Result<Vec<u8>, Error> {
    let bytes = text.bytes().map(Ok).collect();
    std::future::ready(bytes).await
}

#[idempotent]
async fn unwritten(_text: &str) -> Result<u64, Error> {
    todo!()
}

#[idempotent]
async fn panics(_text: &str) -> Result<u64, Error> {
    panic!("always")
}

#[idempotent]
async fn forever(_text: &str) -> Result<u64, Error> {
    loop {
        std::future::pending::<()>().await;
    }
}

#[idempotent]
async fn returns_in_the_end(text: &str) -> Result<usize, Error> {
    return Ok(text.len());
}

#[idempotent]
async fn matches(text: &str) -> Result<usize, Error> {
    match text {
        "" => Err(Error::ClaimLost),
        _ => Ok(text.len()),
    }
}

#[idempotent]
async fn unit(_text: &str) -> Result<(), Error> {
    Ok(())
}

#[idempotent]
async fn items_first(text: &str) -> Result<usize, Error> {
    #![allow(dead_code)]
    use std::convert::identity;
    const UNUSED: u8 = 0;
    fn inner(text: &str) -> usize {
        text.len()
    }
    Ok(identity(inner(text)))
}

#[idempotent]
async fn nested(text: &str) -> Result<usize, Error> {
    #[idempotent]
    async fn inner(len: usize) -> Result<usize, Error> {
        Ok(len)
    }
    inner(text.len()).await
}

#[idempotent(name = "bodies.recursive")]
async fn recursive(depth: u32) -> Result<u32, Error> {
    if depth == 0 { Ok(0) } else { Box::pin(recursive(depth - 1)).await.map(|below| below + 1) }
}

fn main() {
    drop((conversions(""), question_mark_last(""), collected(""), unwritten(""), panics(""), forever("")));
    drop((returns_in_the_end(""), matches(""), unit(""), items_first(""), nested(""), recursive(3)));
}
