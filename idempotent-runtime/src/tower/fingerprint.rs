//! The parts of a request that must be the same in its repeat.

mod json;
mod multipart;
mod number;

use std::{fmt, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, Uri, header::CONTENT_TYPE, request::Parts};
use serde::{Serialize, Serializer};

use crate::{ArgumentsError, Fingerprint};

/// The parts of a request that must be the same in its repeat. The same key with another request is refused.
#[derive(Clone, Default)]
pub struct RequestFingerprint(Kind);

#[derive(Clone, Default)]
enum Kind {
    #[default]
    Bytes,
    Json,
    Parts(Arc<Of>),
}

type Of = dyn Fn(&Parts, &Bytes) -> Result<Fingerprint, ArgumentsError> + Send + Sync;

impl RequestFingerprint {
    /// Compares method, path, query, and the body byte by byte. The default.
    ///
    /// A multipart body is compared part by part, in order: the headers of each part, which have its name, file name and content
    /// type, and its bytes. The boundary is left out, because clients draw a new one for each attempt. A multipart body that breaks
    /// the rules of RFC 2046 is compared byte by byte.
    #[must_use]
    pub const fn bytes() -> Self {
        Self(Kind::Bytes)
    }

    /// Compares method, path, query, and the body. Where the body is JSON (by its `Content-Type`), it is compared by value: white
    /// space and the order of keys do not matter, nor does the spelling of numbers (`1`, `1.0` and `10e-1` are equal). Numbers are
    /// compared to their last digit, and not as floats. `-0` is not `0`, and `null` is not a key that is left out.
    ///
    /// Other bodies are compared as [`bytes`](Self::bytes) does. So are JSON that is nested more than 31 levels deep, and an object
    /// that has a key twice.
    #[must_use]
    pub const fn json() -> Self {
        Self(Kind::Json)
    }

    /// Compares what the function returns, and nothing else. Everything that the handler acts on belongs in it: a request that
    /// differs elsewhere gets the response of another one.
    #[must_use]
    pub fn parts<T: Serialize>(chosen: impl Fn(&Parts, &Bytes) -> T + Send + Sync + 'static) -> Self {
        Self(Kind::Parts(Arc::new(move |parts, body| Fingerprint::of(&chosen(parts, body)))))
    }

    pub(super) fn of(&self, parts: &Parts, body: &Bytes) -> Result<Fingerprint, ArgumentsError> {
        let parsed = match &self.0 {
            Kind::Parts(of) => return of(parts, body),
            Kind::Json if is_json(&parts.headers) => json::parse(body).map(Body::Json),
            Kind::Json | Kind::Bytes => multipart::boundary(&parts.headers)
                .and_then(|boundary| multipart::parse(boundary, body))
                .map(Body::Multipart),
        };
        Fingerprint::of(&HashedRequest {
            method: parts.method.as_str(),
            path: parts.uri.path(),
            query: parts.uri.query(),
            original: original(parts),
            body: parsed.unwrap_or(Body::Bytes(body)),
        })
    }
}

impl fmt::Debug for RequestFingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Kind::Bytes => "RequestFingerprint::bytes()",
            Kind::Json => "RequestFingerprint::json()",
            Kind::Parts(_) => "RequestFingerprint::parts(..)",
        })
    }
}

#[derive(Serialize)]
struct HashedRequest<'a> {
    method: &'a str,
    path: &'a str,
    query: Option<&'a str>,
    /// Path and query as the client sent them, if a nested router has cut off a part of the path.
    #[serde(skip_serializing_if = "Option::is_none")]
    original: Option<&'a str>,
    body: Body<'a>,
}

fn original(parts: &Parts) -> Option<&str> {
    let original = sent_uri(parts).path_and_query()?;
    (parts.uri.path_and_query() != Some(original)).then(|| original.as_str())
}

/// The URI as the client sent it.
#[cfg(feature = "axum")]
pub(super) fn sent_uri(parts: &Parts) -> &Uri {
    parts.extensions.get().map_or(&parts.uri, |axum::extract::OriginalUri(uri)| uri)
}

#[cfg(not(feature = "axum"))]
pub(super) const fn sent_uri(parts: &Parts) -> &Uri {
    &parts.uri
}

#[derive(Serialize)]
enum Body<'a> {
    Bytes(#[serde(serialize_with = "bytes")] &'a Bytes),
    Json(json::Value<'a>),
    Multipart(Vec<multipart::Part<'a>>),
}

fn bytes<S: Serializer>(bytes: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_bytes(bytes)
}

fn is_json(headers: &HeaderMap) -> bool {
    let Some(Ok(value)) = headers.get(CONTENT_TYPE).map(|value| value.to_str()) else { return false };
    let essence = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence == "application/json" || essence.ends_with("+json")
}
