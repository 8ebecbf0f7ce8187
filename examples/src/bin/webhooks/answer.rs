//! The responses to senders.

use std::fmt;

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use idempotent_examples::{chain, say};
use idempotent_runtime::{Disposition, webhooks::VerifyError};
use serde::{Deserialize, Serialize};
use serde_json::json;

/// The outcome of an event: the answer to the first delivery and to every repeat.
#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Outcome {
    /// The event is the newest of its object.
    Applied,
    /// A newer event came first. This one is noted, and changes nothing.
    Outdated,
    /// This service does not use events of this kind.
    Ignored,
    /// A worker processes the event later.
    Accepted,
}

/// Answers 2xx. Called once the outcome is durable.
pub(crate) fn answer(outcome: Outcome, disposition: Disposition) -> Response {
    let status = if matches!(outcome, Outcome::Accepted) { StatusCode::ACCEPTED } else { StatusCode::OK };
    (status, Json(json!({ "outcome": outcome, "replayed": !disposition.ran() }))).into_response()
}

/// The reason why there is no outcome. Nothing was written, unless a commit was applied and its reply was lost.
#[derive(Debug)]
pub(crate) enum HookError {
    /// The delivery is not from the sender.
    Signature(VerifyError),
    /// The delivery is from the sender, but not in the documented form.
    Malformed,
    Database(sqlx::Error),
    /// The call failed without a run of the function.
    Idempotency(idempotent_runtime::Error),
}

impl HookError {
    /// The status. None is a 2xx, so that the sender tries again.
    fn status(&self) -> StatusCode {
        match self {
            Self::Signature(_) | Self::Malformed => StatusCode::BAD_REQUEST,
            Self::Database(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Idempotency(error) => {
                StatusCode::from_u16(error.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
            }
        }
    }
}

impl IntoResponse for HookError {
    fn into_response(self) -> Response {
        if self.status().is_server_error() {
            say(format_args!("a delivery failed: {}", chain(&self)));
        }
        (self.status(), Json(json!({ "error": self.to_string() }))).into_response()
    }
}

impl From<VerifyError> for HookError {
    fn from(error: VerifyError) -> Self {
        Self::Signature(error)
    }
}

/// Drops serde's text, which can quote the body: the body does not belong into logs.
impl From<serde_json::Error> for HookError {
    fn from(_: serde_json::Error) -> Self {
        Self::Malformed
    }
}

impl From<sqlx::Error> for HookError {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error)
    }
}

impl From<idempotent_runtime::Error> for HookError {
    fn from(error: idempotent_runtime::Error) -> Self {
        Self::Idempotency(error)
    }
}

impl fmt::Display for HookError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Signature(error) => error.fmt(f),
            Self::Malformed => f.write_str("the body is not an event of the documented form"),
            Self::Database(_) => f.write_str("the database failed"),
            Self::Idempotency(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for HookError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Signature(_) | Self::Malformed => None,
            Self::Database(error) => Some(error),
            Self::Idempotency(error) => error.source(),
        }
    }
}
