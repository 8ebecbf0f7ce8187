//! The settings of a layer, and their presets.

use std::{fmt, sync::Arc, time::Duration};

use http::{
    HeaderMap, HeaderName, Method, StatusCode,
    header::{
        CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_TYPE, ETAG, LAST_MODIFIED,
        LINK, LOCATION, VARY,
    },
    request::Parts,
};

use super::{
    fingerprint::RequestFingerprint,
    key::KeyFormat,
    replies::{Dialect, PROBLEM_BASE},
};
use crate::{Idempotency, Operation};

pub(super) struct Config {
    pub(super) idempotency: Idempotency,
    pub(super) operation: Operation,
    pub(super) scope: KeyScope,
    pub(super) dialect: Dialect,
    pub(super) header: HeaderName,
    pub(super) methods: Vec<Method>,
    pub(super) required: bool,
    pub(super) format: KeyFormat,
    pub(super) valid: Option<Arc<IsValid>>,
    pub(super) fingerprint: RequestFingerprint,
    pub(super) keep: Arc<dyn Fn(StatusCode) -> bool + Send + Sync>,
    pub(super) headers: Vec<HeaderName>,
    pub(super) max_request_body: usize,
    pub(super) max_response_body: usize,
    pub(super) run_on: Duration,
}

type IsValid = dyn Fn(&str) -> bool + Send + Sync;
type ScopeOf = dyn Fn(&Parts) -> Option<String> + Send + Sync;

/// The space of keys that a request belongs to.
#[derive(Clone)]
pub(super) enum KeyScope {
    /// One space for all requests.
    Unscoped,
    /// A space for each tenant; `None` refuses the request.
    Of(Arc<ScopeOf>),
}

impl Config {
    pub(super) fn ietf(idempotency: Idempotency, scope: KeyScope) -> Self {
        Self {
            idempotency,
            operation: Operation::new("http").wait(Duration::ZERO),
            scope,
            dialect: Dialect::Problem { base: PROBLEM_BASE.to_owned() },
            header: HeaderName::from_static("idempotency-key"),
            methods: vec![Method::POST, Method::PATCH],
            required: true,
            format: KeyFormat::Lenient,
            valid: None,
            fingerprint: RequestFingerprint::bytes(),
            keep: Arc::new(|status| !status.is_server_error() && status != StatusCode::TOO_MANY_REQUESTS),
            headers: vec![
                CACHE_CONTROL,
                CONTENT_DISPOSITION,
                CONTENT_ENCODING,
                CONTENT_LANGUAGE,
                CONTENT_TYPE,
                ETAG,
                LAST_MODIFIED,
                LINK,
                LOCATION,
                VARY,
            ],
            max_request_body: 1024 * 1024,
            max_response_body: 512 * 1024,
            run_on: Duration::from_secs(60),
        }
    }

    pub(super) fn stripe_v1(idempotency: Idempotency, scope: KeyScope) -> Self {
        Self {
            dialect: Dialect::Stripe,
            methods: vec![Method::POST],
            required: false,
            keep: Arc::new(|status| status != StatusCode::TOO_MANY_REQUESTS),
            ..Self::ietf(idempotency, scope)
        }
    }

    pub(super) fn stripe_v2(idempotency: Idempotency, scope: KeyScope) -> Self {
        const DAY: Duration = Duration::from_secs(24 * 60 * 60);
        let v1 = Self::stripe_v1(idempotency, scope);
        Self {
            operation: v1.operation.clone().ttl(30 * DAY),
            methods: vec![Method::POST, Method::DELETE],
            keep: Arc::new(|status| !status.is_client_error() && !status.is_server_error()),
            ..v1
        }
    }

    pub(super) fn keeps(&self, status: StatusCode) -> bool {
        (self.keep)(status)
    }

    /// The headers of a response that are kept with it.
    pub(super) fn kept_headers(&self, headers: &HeaderMap) -> HeaderMap {
        let mut kept = HeaderMap::new();
        for (name, value) in headers {
            if self.headers.contains(name) {
                kept.append(name, value.clone());
            }
        }
        kept
    }
}

/// Shows neither the store nor the functions.
impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("idempotency", &self.idempotency)
            .field("operation", &self.operation)
            .field("scoped", &matches!(self.scope, KeyScope::Of(_)))
            .field("dialect", &self.dialect)
            .field("header", &self.header)
            .field("methods", &self.methods)
            .field("required", &self.required)
            .field("format", &self.format)
            .field("fingerprint", &self.fingerprint)
            .field("headers", &self.headers)
            .field("max_request_body", &self.max_request_body)
            .field("max_response_body", &self.max_response_body)
            .field("run_on", &self.run_on)
            .finish_non_exhaustive()
    }
}
