//! The layer's own responses to clients (refusals), and the headers that it adds to the handler's responses.

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Response, StatusCode,
    header::{CONTENT_TYPE, LINK, RETRY_AFTER},
};
use serde_json::json;

use super::{
    body::ResponseBody,
    grpc::{self, Code},
    not_begun::NotBegun,
};
use crate::Error;

pub(super) const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");
const TTL: HeaderName = HeaderName::from_static("idempotency-ttl");
const REQUEST_ID: HeaderName = HeaderName::from_static("request-id");
const ORIGINAL_REQUEST: HeaderName = HeaderName::from_static("original-request");
const SHOULD_RETRY: HeaderName = HeaderName::from_static("stripe-should-retry");
pub(super) const PROBLEM_CONTENT_TYPE: &str = "application/problem+json";
/// The default base of problem types, as in `urn:idempotent:problem:mismatch`.
pub(super) const PROBLEM_BASE: &str = "urn:idempotent:problem:";
const DRAFT: &str = "https://datatracker.ietf.org/doc/html/draft-ietf-httpapi-idempotency-key-header-07";

/// The form of the layer's own responses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    /// Problem documents (RFC 9457), whose types begin with `base`.
    Problem { base: String },
    /// Stripe's error objects, request ids and hints on retries.
    Stripe,
}

/// The reason why a request gets no response of its handler.
#[derive(Debug)]
pub(super) enum Refusal {
    KeyMissing,
    KeyMalformed(&'static str),
    NoScope,
    BodyTooLarge,
    BodyUnreadable,
    HandlerFailed,
    Engine(Error),
}

impl Refusal {
    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::KeyMissing | Self::KeyMalformed(_) | Self::BodyUnreadable => StatusCode::BAD_REQUEST,
            Self::NoScope => StatusCode::FORBIDDEN,
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::HandlerFailed => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Engine(error) => {
                StatusCode::from_u16(error.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
            }
        }
    }

    /// The status of gRPC. A client that may retry the same call gets `UNAVAILABLE`, which clients are set up to retry.
    fn grpc_status(&self) -> Code {
        match self {
            _ if self.retry_after().is_some() => Code::Unavailable,
            Self::KeyMissing
            | Self::KeyMalformed(_)
            | Self::BodyUnreadable
            | Self::Engine(Error::Key(_) | Error::Arguments(_)) => Code::InvalidArgument,
            Self::NoScope => Code::PermissionDenied,
            Self::BodyTooLarge => Code::ResourceExhausted,
            Self::HandlerFailed => Code::Unknown,
            Self::Engine(Error::Mismatch { .. } | Error::Abandoned { .. }) => Code::FailedPrecondition,
            Self::Engine(_) => Code::Internal,
        }
    }

    const fn code(&self) -> &'static str {
        match self {
            Self::KeyMissing => "key-missing",
            Self::KeyMalformed(_) => "key-malformed",
            Self::NoScope => "no-scope",
            Self::BodyTooLarge => "body-too-large",
            Self::BodyUnreadable => "body-unreadable",
            Self::HandlerFailed => "handler-failed",
            Self::Engine(error) => error.code(),
        }
    }

    const fn title(&self) -> &'static str {
        match self {
            Self::KeyMissing => "Idempotency-Key is missing",
            Self::KeyMalformed(_) => "Idempotency-Key cannot be used",
            Self::NoScope => "The caller could not be identified",
            Self::BodyTooLarge => "The request body is too large",
            Self::BodyUnreadable => "The request body cannot be read",
            Self::HandlerFailed => "The request failed",
            Self::Engine(Error::InFlight { .. }) => "A request with this Idempotency-Key is still running",
            Self::Engine(Error::Mismatch { .. }) => "Idempotency-Key was used for another request",
            Self::Engine(Error::ResultNotKept(_)) => "The response was not kept",
            Self::Engine(_) => "Idempotency cannot be ensured",
        }
    }

    fn detail(&self, header: &HeaderName) -> String {
        match self {
            Self::KeyMissing => {
                format!("Requests of this kind need the header `{header}`, with a key that is the same in each retry.")
            }
            Self::KeyMalformed(why) => format!("The header `{header}` cannot be used: {why}."),
            Self::NoScope => "The service could not tell on whose behalf the request is made.".to_owned(),
            Self::BodyTooLarge => "The body is larger than this service accepts in a request with a key.".to_owned(),
            Self::BodyUnreadable => "The body ended before it was complete.".to_owned(),
            Self::HandlerFailed => {
                "The request was started and ended without a response. It may have taken effect.".to_owned()
            }
            Self::Engine(Error::Mismatch { .. }) => {
                "The key was used before with another method, path, query or body.".to_owned()
            }
            Self::Engine(Error::ResultNotKept(_)) => {
                "The request was processed before; its response was not kept. It was not processed again.".to_owned()
            }
            Self::Engine(error) => format!("{error}."),
        }
    }

    /// Seconds after which the client may retry. A running request is short: as a rule it ends long before its lease would.
    pub(super) const fn retry_after(&self) -> Option<u16> {
        match self {
            Self::Engine(Error::InFlight { .. } | Error::ClaimLost) => Some(1),
            Self::Engine(error) if error.is_retryable() => Some(5),
            _ => None,
        }
    }
}

impl Dialect {
    /// The refusal as a response to a request, whose content type is given if it is of gRPC.
    pub(super) fn refuse<B>(
        &self,
        refusal: &Refusal,
        header: &HeaderName,
        grpc: Option<&HeaderValue>,
    ) -> Response<ResponseBody<B>> {
        let mut response = match grpc {
            Some(content_type) => trailers_only(refusal, header, content_type),
            None => self.refuse_over_http(refusal, header),
        };
        if !matches!(refusal, Refusal::HandlerFailed) {
            // Otherwise an idempotency layer further out would keep the refusal, and replay it to the corrected request.
            response.extensions_mut().insert(NotBegun);
        }
        response
    }

    fn refuse_over_http<B>(&self, refusal: &Refusal, header: &HeaderName) -> Response<ResponseBody<B>> {
        let (status, body, content_type) = match self {
            Self::Problem { base } => {
                (refusal.status(), problem(base, refusal, &refusal.detail(header)), PROBLEM_CONTENT_TYPE)
            }
            Self::Stripe => stripe_error(refusal, header),
        };
        let body = ResponseBody::whole(Bytes::from(body), None);
        let mut response = Response::new(body);
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        if let Some(seconds) = refusal.retry_after() {
            headers.insert(RETRY_AFTER, seconds.into());
        }
        match self {
            Self::Problem { base } if status == StatusCode::BAD_REQUEST => {
                let documentation =
                    if base.starts_with("http") { problem_type(base, refusal) } else { DRAFT.to_owned() };
                let link = HeaderValue::try_from(format!("<{documentation}>; rel=\"describedby\""));
                headers.extend(link.ok().map(|link| (LINK, link)));
            }
            Self::Problem { .. } => {}
            Self::Stripe => {
                headers.extend(request_id().map(|id| (REQUEST_ID, id)));
                let retry = match refusal {
                    _ if refusal.retry_after().is_some() => Some("true"),
                    Refusal::HandlerFailed => None,
                    _ => Some("false"),
                };
                headers.extend(retry.map(|retry| (SHOULD_RETRY, HeaderValue::from_static(retry))));
            }
        }
        response
    }

    /// Gives the response of a run its request id, and returns the id, which is kept with the response.
    pub(super) fn name(&self, headers: &mut HeaderMap, kept: bool, status: StatusCode) -> Option<String> {
        if *self != Self::Stripe {
            return None;
        }
        if !headers.contains_key(REQUEST_ID) {
            headers.extend(request_id().map(|id| (REQUEST_ID, id)));
        }
        let id = headers.get(REQUEST_ID)?.clone();
        let name = id.to_str().ok()?.to_owned();
        headers.insert(ORIGINAL_REQUEST, id);
        if kept {
            no_use_in_retrying(headers, status);
        }
        Some(name)
    }

    /// Marks a response as a replay, and names the request that it replays.
    pub(super) fn replayed(&self, headers: &mut HeaderMap, original: Option<String>, status: StatusCode) {
        headers.insert(REPLAYED, HeaderValue::from_static("true"));
        if *self == Self::Stripe {
            let original = original.and_then(|id| HeaderValue::try_from(id).ok());
            // `insert` replaces the ids that were kept with the response.
            for (name, id) in [(REQUEST_ID, request_id()), (ORIGINAL_REQUEST, original)] {
                if let Some(id) = id {
                    headers.insert(name, id);
                }
            }
            no_use_in_retrying(headers, status);
        }
    }

    /// Adds the headers of every response to a request with a key: the time to live, and with Stripe's presets the key.
    pub(super) fn mark(headers: &mut HeaderMap, ttl: HeaderValue, key: Option<(&HeaderName, HeaderValue)>) {
        headers.insert(TTL, ttl);
        if let Some((name, sent)) = key {
            headers.insert(name, sent);
        }
    }

    /// The key as it was sent, where responses repeat it.
    pub(super) fn echo(&self, headers: &HeaderMap, name: &HeaderName) -> Option<HeaderValue> {
        if *self == Self::Stripe { headers.get(name).cloned() } else { None }
    }
}

/// Tells Stripe's clients not to retry. They retry 409 and 5xx by themselves, and would get the same response again.
fn no_use_in_retrying(headers: &mut HeaderMap, status: StatusCode) {
    if status == StatusCode::CONFLICT || status.is_server_error() {
        headers.insert(SHOULD_RETRY, HeaderValue::from_static("false"));
    }
}

/// The refusal of a call of gRPC: HTTP 200, with the status in the headers and without a body.
fn trailers_only<B>(refusal: &Refusal, header: &HeaderName, content_type: &HeaderValue) -> Response<ResponseBody<B>> {
    let mut response = Response::new(ResponseBody::whole(Bytes::new(), None));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, content_type.clone());
    headers.insert(grpc::STATUS, (refusal.grpc_status() as u16).into());
    let message = format!("{}: {}", refusal.code(), refusal.detail(header));
    headers.extend(grpc::message(&message).map(|message| (grpc::MESSAGE, message)));
    if let Some(seconds) = refusal.retry_after() {
        headers.insert(grpc::RETRY_PUSHBACK, (u32::from(seconds) * 1000).into());
    }
    response
}

fn problem_type(base: &str, refusal: &Refusal) -> String {
    format!("{base}{}", refusal.code())
}

/// A problem document (RFC 9457).
pub(super) fn problem(base: &str, refusal: &Refusal, detail: &str) -> String {
    json!({
        "type": problem_type(base, refusal),
        "title": refusal.title(),
        "status": refusal.status().as_u16(),
        "detail": detail,
        "code": refusal.code(),
    })
    .to_string()
}

fn stripe_error(refusal: &Refusal, header: &HeaderName) -> (StatusCode, String, &'static str) {
    let (status, kind, code) = match refusal {
        Refusal::Engine(Error::Mismatch { .. }) => (StatusCode::BAD_REQUEST, "idempotency_error", None),
        Refusal::Engine(Error::InFlight { .. }) => {
            (refusal.status(), "invalid_request_error", Some("idempotency_key_in_use".to_owned()))
        }
        _ if refusal.status().is_server_error() => {
            (refusal.status(), "api_error", Some(refusal.code().replace('-', "_")))
        }
        _ => (refusal.status(), "invalid_request_error", Some(refusal.code().replace('-', "_"))),
    };
    let body = json!({ "error": { "type": kind, "code": code, "message": refusal.detail(header) } }).to_string();
    (status, body, "application/json")
}

fn request_id() -> Option<HeaderValue> {
    HeaderValue::try_from(format!("req_{:016x}", rand::random::<u64>())).ok()
}
