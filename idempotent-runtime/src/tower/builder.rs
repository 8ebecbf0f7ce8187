//! Builds a layer.

use std::{sync::Arc, time::Duration};

use http::{
    HeaderName, Method, StatusCode, Uri,
    header::{
        CONNECTION, CONTENT_LENGTH, DATE, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, SET_COOKIE, TE, TRAILER,
        TRANSFER_ENCODING, UPGRADE,
    },
    request::Parts,
};

use super::{
    IdempotencyLayer,
    config::{Config, Scope},
    fingerprint::RequestFingerprint,
    key::KeyFormat,
    replies::Dialect,
};
use crate::{Idempotency, OnAbandoned, SetupError};

/// A preset whose scope is still to be chosen, with [`scope`](Self::scope) or [`unscoped`](Self::unscoped): whose keys are whose.
///
/// Without a scope, whoever guesses a key of another gets the other's response. So there is no layer without the choice:
///
/// ```compile_fail
/// # use idempotent_runtime::{Idempotency, tower::IdempotencyLayer};
/// let layer = IdempotencyLayer::ietf(Idempotency::memory()).build();
/// ```
///
/// ```
/// # use idempotent_runtime::{Idempotency, tower::IdempotencyLayer};
/// let layer = IdempotencyLayer::ietf(Idempotency::memory()).unscoped().build();
/// # assert!(layer.is_ok());
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct ChooseScope {
    pub(super) idempotency: Idempotency,
    pub(super) preset: fn(Idempotency, Scope) -> Config,
}

impl ChooseScope {
    /// Each tenant, account or user has keys of its own: the function says on whose behalf a request is made, from what
    /// authentication has left in its extensions, say, or to which host. A request of which it returns `None` is refused
    /// with 403.
    pub fn scope(self, of: impl Fn(&Parts) -> Option<String> + Send + Sync + 'static) -> IdempotencyLayerBuilder {
        self.with(Scope::Of(Arc::new(of)))
    }

    /// All clients share the keys: for services with one client, or whose clients trust each other.
    pub fn unscoped(self) -> IdempotencyLayerBuilder {
        self.with(Scope::Unscoped)
    }

    fn with(self, scope: Scope) -> IdempotencyLayerBuilder {
        IdempotencyLayerBuilder { config: (self.preset)(self.idempotency, scope), problem_base: None }
    }
}

/// Builds an [`IdempotencyLayer`]. What is said here of defaults is of the preset [`ietf`](IdempotencyLayer::ietf).
#[derive(Debug)]
#[must_use]
pub struct IdempotencyLayerBuilder {
    config: Config,
    problem_base: Option<String>,
}

impl IdempotencyLayerBuilder {
    /// The name of the operation, part of every stored key: layers of other names have other keys. `"http"` by default.
    pub fn name(mut self, name: impl Into<std::borrow::Cow<'static, str>>) -> Self {
        self.config.operation.name = name.into();
        self
    }

    /// Lets requests without a key pass, unprotected. By default they are refused.
    pub const fn optional(mut self) -> Self {
        self.config.required = false;
        self
    }

    /// Refuses requests without a key. The default.
    pub const fn required(mut self) -> Self {
        self.config.required = true;
        self
    }

    /// The header that has the key: `Idempotency-Key` by default.
    pub fn header(mut self, name: HeaderName) -> Self {
        self.config.header = name;
        self
    }

    /// The methods whose keys count: POST and PATCH by default. With any other, a request passes as if there were no layer.
    pub fn methods(mut self, methods: impl IntoIterator<Item = Method>) -> Self {
        self.config.methods = methods.into_iter().collect();
        self
    }

    /// How a key is written: [`KeyFormat::Lenient`] by default.
    pub const fn key_format(mut self, format: KeyFormat) -> Self {
        self.config.format = format;
        self
    }

    /// What a key has to look like besides; the function gets it without quotation marks and escapes.
    pub fn valid_key(mut self, is_valid: impl Fn(&str) -> bool + Send + Sync + 'static) -> Self {
        self.config.valid = Some(Arc::new(is_valid));
        self
    }

    /// What has to be the same in a repeat: [`RequestFingerprint::bytes`] by default.
    pub fn fingerprint(mut self, fingerprint: RequestFingerprint) -> Self {
        self.config.fingerprint = fingerprint;
        self
    }

    /// Which responses are kept and replayed. After others the key is free, and a repeat runs the handler again. By default
    /// all but 5xx and 429 are kept. See also [`NotBegun`](super::NotBegun).
    pub fn keep_status(mut self, keep: impl Fn(StatusCode) -> bool + Send + Sync + 'static) -> Self {
        self.config.keep = Arc::new(keep);
        self
    }

    /// The response headers that are kept, instead of the default ones: Cache-Control, Content-Disposition,
    /// Content-Encoding, Content-Language, Content-Type, `ETag`, Last-Modified, Link, Location, Vary.
    pub fn keep_headers(mut self, names: impl IntoIterator<Item = HeaderName>) -> Self {
        self.config.headers = names.into_iter().collect();
        self
    }

    /// The largest request body, in bytes, of a request with a key: 1 MiB by default. It is read before the handler runs;
    /// larger ones are refused with 413.
    pub const fn max_request_body(mut self, bytes: usize) -> Self {
        self.config.max_request_body = bytes;
        self
    }

    /// The largest response body that is kept, in bytes: 512 KiB by default. Larger ones reach the first client whole, and
    /// repeats are told that the response is not available. The handle's
    /// [`max_result_len`](crate::IdempotencyBuilder::max_result_len) bounds what is stored as well.
    pub const fn max_response_body(mut self, bytes: usize) -> Self {
        self.config.max_response_body = bytes;
        self
    }

    /// How long a repeat waits for a request that is under way, to get its response. Zero, the default, refuses it at once.
    pub fn wait(self, wait: Duration) -> Self {
        self.operation(|operation| operation.wait(wait))
    }

    /// How long a response is kept, from its completion: 24 hours by default.
    pub fn ttl(self, ttl: Duration) -> Self {
        self.operation(|operation| operation.ttl(ttl))
    }

    /// How long a claim lives without a sign of life of its process: 30 seconds by default.
    pub fn lease(self, lease: Duration) -> Self {
        self.operation(|operation| operation.lease(lease))
    }

    /// What a repeat does after a handler that ended without a response: a panic, an error of the service, a crash, the end
    /// of [`run_on`](Self::run_on). Runs it again by default.
    pub fn abandoned(self, abandoned: OnAbandoned) -> Self {
        self.operation(|operation| operation.abandoned(abandoned))
    }

    /// How long a handler may run on when its client has gone: a minute by default.
    pub const fn run_on(mut self, limit: Duration) -> Self {
        self.config.run_on = limit;
        self
    }

    /// Where the problem types are documented: each is this and its code, as in `https://api.example.com/problems/mismatch`
    /// for `https://api.example.com/problems/`.
    pub fn problem_base(mut self, url: impl Into<String>) -> Self {
        self.problem_base = Some(url.into());
        self
    }

    fn operation(mut self, change: impl FnOnce(crate::Operation) -> crate::Operation) -> Self {
        self.config.operation = change(self.config.operation);
        self
    }

    /// The layer.
    ///
    /// # Errors
    ///
    /// If a setting cannot work.
    pub fn build(self) -> Result<IdempotencyLayer, SetupError> {
        let Self { mut config, problem_base } = self;
        let is_base = problem_base.as_deref().is_none_or(is_base);
        let unused_base = problem_base.is_some() && config.dialect == Dialect::Stripe;
        if let Some(base) = problem_base {
            config.dialect = Dialect::Problem { base };
        }
        let wrong = [
            (config.methods.is_empty(), "no method takes a key"),
            (
                config.methods.iter().any(|method| method.is_safe() || *method == Method::CONNECT),
                "GET, HEAD, OPTIONS, TRACE and CONNECT take no key",
            ),
            (config.headers.iter().any(is_of_one_response), "a header that is of one response cannot be kept"),
            (config.headers.contains(&SET_COOKIE), "a cookie is for one client and cannot be kept"),
            (!(1..=255).contains(&config.operation.name.len()), "the layer's name is empty or longer than 255 bytes"),
            (config.max_response_body == 0, "`max_response_body` is zero"),
            (unused_base, "Stripe's errors are no problem documents: `problem_base` has no use"),
            (!is_base, "`problem_base` is not a URI that ends with one of `/ # : =`"),
        ];
        if let Some((_, what)) = wrong.into_iter().find(|(is_wrong, _)| *is_wrong) {
            return Err(SetupError::Setting(what));
        }
        crate::engine::check_durations(config.operation.lease, config.operation.ttl)
            .map_err(|error| SetupError::Setting(error.text()))?;
        Ok(IdempotencyLayer::new(config))
    }
}

/// Whether a code can follow.
fn is_base(base: &str) -> bool {
    let is_uri = base.starts_with("urn:") || base.split('#').next().is_some_and(|base| base.parse::<Uri>().is_ok());
    is_uri && base.ends_with(['/', '#', ':', '=']) && base.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'>')
}

/// Hop by hop, or counted and made anew for every response.
fn is_of_one_response(name: &HeaderName) -> bool {
    let known = [
        CONNECTION,
        CONTENT_LENGTH,
        DATE,
        PROXY_AUTHENTICATE,
        PROXY_AUTHORIZATION,
        TE,
        TRAILER,
        TRANSFER_ENCODING,
        UPGRADE,
        HeaderName::from_static("keep-alive"),
    ];
    known.contains(name)
}

#[cfg(all(test, feature = "memory"))]
#[expect(clippy::unwrap_used, reason = "a test fails so")]
mod tests {
    use http::header::ETAG;

    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 60 * 60);

    fn refused(
        preset: fn(Idempotency) -> ChooseScope,
        settings: impl FnOnce(IdempotencyLayerBuilder) -> IdempotencyLayerBuilder,
    ) -> String {
        settings(preset(Idempotency::memory()).unscoped()).build().unwrap_err().to_string()
    }

    #[test]
    fn what_cannot_work_is_refused() {
        let ietf = |settings: fn(IdempotencyLayerBuilder) -> IdempotencyLayerBuilder| {
            refused(IdempotencyLayer::ietf, settings)
        };
        assert!(ietf(|builder| builder.methods([])).contains("no method"));
        for method in [Method::GET, Method::HEAD, Method::OPTIONS, Method::TRACE, Method::CONNECT] {
            let methods = |builder: IdempotencyLayerBuilder| builder.methods([Method::POST, method]);
            assert!(refused(IdempotencyLayer::ietf, methods).contains("take no key"));
        }
        assert!(ietf(|builder| builder.keep_headers([ETAG, SET_COOKIE])).contains("cookie"));
        for name in ["date", "connection", "keep-alive", "transfer-encoding", "content-length", "trailer", "upgrade"] {
            let headers = |builder: IdempotencyLayerBuilder| builder.keep_headers([HeaderName::from_static(name)]);
            assert!(refused(IdempotencyLayer::ietf, headers).contains("one response"), "{name}");
        }
        assert!(ietf(|builder| builder.name("")).contains("name"));
        assert!(ietf(|builder| builder.max_response_body(0)).contains("max_response_body"));
        assert!(ietf(|builder| builder.lease(DAY).ttl(DAY / 2)).contains("ttl"));
        for base in ["", "https://example.com/problems", "problems\n/", "https://example.com/>/"] {
            let base = |builder: IdempotencyLayerBuilder| builder.problem_base(base);
            assert!(refused(IdempotencyLayer::ietf, base).contains("problem_base"));
        }
        let base = |builder: IdempotencyLayerBuilder| builder.problem_base("https://example.com/problems/");
        assert!(refused(IdempotencyLayer::stripe_v1, base).contains("no use"));
    }

    #[test]
    fn what_can_work_is_not() {
        for base in ["https://example.com/problems/", "https://example.com/problems#", "urn:example:problem:"] {
            let layer = IdempotencyLayer::ietf(Idempotency::memory()).unscoped().problem_base(base).build();
            assert!(layer.is_ok(), "{base}");
        }
        assert!(IdempotencyLayer::stripe_v2(Idempotency::memory()).scope(|_| None).build().is_ok());
    }
}
