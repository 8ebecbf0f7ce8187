//! The settings of a layer, and their presets.

use std::{borrow::Cow, fmt, sync::Arc, time::Duration};

use http::{
    HeaderMap, HeaderName, Method, StatusCode,
    header::{
        ACCEPT, ACCEPT_ENCODING, ALLOW, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_ENCODING, CONTENT_LANGUAGE,
        CONTENT_LOCATION, CONTENT_RANGE, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, EXPIRES, LAST_MODIFIED, LINK,
        LOCATION, RETRY_AFTER, VARY, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
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
    pub(super) headers: KeptHeaders,
    pub(super) max_request_body: usize,
    pub(super) max_response_body: usize,
    pub(super) run_on: Duration,
}

/// The client errors that ask for the same request again: a handler that ran into a time limit, early data (RFC 8470), a rate
/// limit.
const AGAIN: [StatusCode; 3] = [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_EARLY, StatusCode::TOO_MANY_REQUESTS];

/// The headers that are kept by default: those of the body, and those of a status.
static KEPT: [HeaderName; 24] = [
    ACCEPT,
    ACCEPT_ENCODING,
    HeaderName::from_static("accept-patch"),
    HeaderName::from_static("accept-post"),
    ALLOW,
    CACHE_CONTROL,
    HeaderName::from_static("content-digest"),
    CONTENT_DISPOSITION,
    CONTENT_ENCODING,
    CONTENT_LANGUAGE,
    CONTENT_LOCATION,
    CONTENT_RANGE,
    CONTENT_SECURITY_POLICY,
    CONTENT_TYPE,
    ETAG,
    EXPIRES,
    LAST_MODIFIED,
    LINK,
    LOCATION,
    HeaderName::from_static("preference-applied"),
    HeaderName::from_static("repr-digest"),
    RETRY_AFTER,
    VARY,
    X_CONTENT_TYPE_OPTIONS,
];

/// The response headers that are kept.
#[derive(Clone, Debug)]
pub(super) enum KeptHeaders {
    Default,
    These(Vec<HeaderName>),
}

impl KeptHeaders {
    fn contains(&self, name: &HeaderName, status: StatusCode) -> bool {
        match self {
            // With another status, it can answer the credentials of one client.
            Self::Default if *name == WWW_AUTHENTICATE => status == StatusCode::UNAUTHORIZED,
            Self::Default => KEPT.contains(name),
            Self::These(names) => names.contains(name),
        }
    }
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
    pub(super) fn ietf(name: Cow<'static, str>, idempotency: Idempotency, scope: KeyScope) -> Self {
        Self {
            idempotency,
            operation: Operation::new(name).wait(Duration::ZERO),
            scope,
            dialect: Dialect::Problem { base: PROBLEM_BASE.to_owned() },
            header: HeaderName::from_static("idempotency-key"),
            methods: vec![Method::POST, Method::PATCH],
            required: true,
            format: KeyFormat::Lenient,
            valid: None,
            fingerprint: RequestFingerprint::bytes(),
            keep: Arc::new(|status| !status.is_server_error() && !AGAIN.contains(&status)),
            headers: KeptHeaders::Default,
            max_request_body: 1024 * 1024,
            max_response_body: 512 * 1024,
            run_on: Duration::from_secs(60),
        }
    }

    pub(super) fn stripe_v1(name: Cow<'static, str>, idempotency: Idempotency, scope: KeyScope) -> Self {
        Self {
            dialect: Dialect::Stripe,
            methods: vec![Method::POST],
            required: false,
            keep: Arc::new(|status| status != StatusCode::TOO_MANY_REQUESTS),
            ..Self::ietf(name, idempotency, scope)
        }
    }

    pub(super) fn stripe_v2(name: Cow<'static, str>, idempotency: Idempotency, scope: KeyScope) -> Self {
        const DAY: Duration = Duration::from_secs(24 * 60 * 60);
        let v1 = Self::stripe_v1(name, idempotency, scope);
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
    pub(super) fn kept_headers(&self, status: StatusCode, headers: &HeaderMap) -> HeaderMap {
        chosen(headers, |name| self.headers.contains(name, status))
    }
}

/// The headers with these names.
pub(super) fn chosen(headers: &HeaderMap, is_chosen: impl Fn(&HeaderName) -> bool) -> HeaderMap {
    let mut chosen = HeaderMap::new();
    for (name, value) in headers.iter().filter(|(name, _)| is_chosen(name)) {
        chosen.append(name, value.clone());
    }
    chosen
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
