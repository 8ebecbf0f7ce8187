//! Trailing temporaries, borrowed across the whole body.
#![deny(warnings)]

use std::sync::Mutex;

use idempotent_runtime::{Error, idempotent};

#[idempotent(key = names.lock().map(|names| names.len()).unwrap_or(0), skip(names))]
async fn locked(names: &Mutex<Vec<String>>) -> Result<usize, Error> {
    let len = names.lock().map_or(0, |names| names.len());
    std::future::ready(()).await;
    Ok(len)
}

fn main() {
    fn send<T: Send>(_: T) {}
    send(locked(&Mutex::new(vec![])));
}
