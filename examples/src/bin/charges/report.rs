//! What the user sees.

use std::{
    error::Error,
    fmt::Display,
    io::{self, Write as _},
};

use axum::{extract::Request, middleware::Next, response::Response};

/// Writes a line to standard error. There is nobody to tell if that fails.
pub(crate) fn say(what: impl Display) {
    let _ = writeln!(io::stderr().lock(), "charges: {what}");
}

/// Writes to standard output, whoever reads it.
pub(crate) fn print(text: &str) {
    let mut stdout = io::stdout().lock();
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}

/// An error and its causes in one line.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// Says of each request what it was answered with.
pub(crate) async fn log(request: Request, next: Next) -> Response {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let response = next.run(request).await;
    let replay = if response.headers().contains_key("idempotent-replayed") { ", a replay" } else { "" };
    say(format_args!("{method} {path}: {}{replay}", response.status().as_u16()));
    response
}
