//! The log on standard error.

use axum::{extract::Request, middleware::Next, response::Response};
use idempotent_examples::say;

/// Logs each request with the status of its response.
pub(crate) async fn log(request: Request, next: Next) -> Response {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let response = next.run(request).await;
    let replay = if response.headers().contains_key("idempotent-replayed") { ", a replay" } else { "" };
    say(format_args!("{method} {path}: {}{replay}", response.status().as_u16()));
    response
}
