//! Builds a layer: a preset with the service's name, then a scope, then settings.

use std::{borrow::Cow, sync::Arc, time::Duration};

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
    config::{Config, KeptHeaders, KeyScope},
    fingerprint::RequestFingerprint,
    key::KeyFormat,
    replies::Dialect,
};
use crate::{Idempotency, OnAbandoned, SetupError};

/// Each preset takes the name of the service, which is part of every stored key. Two services on one store need two names: with
/// the same one, they would answer for each other. Keep the name: under another one, the records of the old name are not found,
/// and a late repeat runs the handler again. It has 1 to 255 bytes.
///
/// There is no default:
///
/// ```compile_fail
/// # use idempotent_runtime::{Idempotency, tower::IdempotencyLayer};
/// let layer = IdempotencyLayer::ietf(Idempotency::memory());
/// ```
///
/// ```
/// # use idempotent_runtime::{Idempotency, tower::IdempotencyLayer};
/// let layer = IdempotencyLayer::ietf("shop.orders", Idempotency::memory());
/// ```
impl IdempotencyLayer {
    /// Starts a layer after the draft "The Idempotency-Key HTTP Header Field": the key is required, errors are problem
    /// documents.
    ///
    /// Keeps all responses but 5xx, 408, 425 and 429. Of the 4xx, those three mean "send the same request again"; any other one is
    /// an answer, and says the same to each repeat. A 4xx of a check that comes before the handler's work, such as that the body is
    /// no JSON, is kept as well, and then refuses the corrected request as a mismatch, unless it is marked as
    /// [`NotBegun`](super::NotBegun).
    pub fn ietf(name: impl Into<Cow<'static, str>>, idempotency: Idempotency) -> ChooseScope {
        ChooseScope { name: name.into(), idempotency, preset: Config::ietf }
    }

    /// Starts a layer after Stripe's API v1: POST with an optional key, Stripe's error objects, request ids and hints on
    /// retries.
    ///
    /// Keeps all responses but 429, also those of 500 and of every other 4xx: Stripe saves the response of each request that began.
    /// A handler that refuses a request before it begins, for example by validation, marks its response as
    /// [`NotBegun`](super::NotBegun).
    pub fn stripe_v1(name: impl Into<Cow<'static, str>>, idempotency: Idempotency) -> ChooseScope {
        ChooseScope { name: name.into(), idempotency, preset: Config::stripe_v1 }
    }

    /// Starts a layer after Stripe's API v2: POST and DELETE; successes are kept for 30 days, failures are run again.
    ///
    /// Keeps no 4xx and no 5xx: Stripe runs a failed request again, so that there is nothing to mark.
    pub fn stripe_v2(name: impl Into<Cow<'static, str>>, idempotency: Idempotency) -> ChooseScope {
        ChooseScope { name: name.into(), idempotency, preset: Config::stripe_v2 }
    }
}

/// A preset that still needs a scope: [`scope`](Self::scope) or [`unscoped`](Self::unscoped).
///
/// The scope keeps the keys of tenants apart. Without one, a client that guesses another client's key gets the other's response.
/// A layer cannot be built without the choice:
///
/// ```compile_fail
/// # use idempotent_runtime::{Idempotency, tower::IdempotencyLayer};
/// let layer = IdempotencyLayer::ietf("shop.orders", Idempotency::memory()).build();
/// ```
///
/// ```
/// # use idempotent_runtime::{Idempotency, tower::IdempotencyLayer};
/// let layer = IdempotencyLayer::ietf("shop.orders", Idempotency::memory()).unscoped().build();
/// # assert!(layer.is_ok());
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct ChooseScope {
    name: Cow<'static, str>,
    idempotency: Idempotency,
    preset: fn(Cow<'static, str>, Idempotency, KeyScope) -> Config,
}

impl ChooseScope {
    /// Gives each tenant keys of its own. The function returns the tenant (an account, a user, a host) of a request, for example
    /// from what authentication has left in the request's extensions. A request without a tenant, `None`, is refused with
    /// 403.
    pub fn scope(self, of: impl Fn(&Parts) -> Option<String> + Send + Sync + 'static) -> IdempotencyLayerBuilder {
        self.with(KeyScope::Of(Arc::new(of)))
    }

    /// Lets all clients share the keys. For services with one client, or whose clients trust each other.
    pub fn unscoped(self) -> IdempotencyLayerBuilder {
        self.with(KeyScope::Unscoped)
    }

    fn with(self, scope: KeyScope) -> IdempotencyLayerBuilder {
        IdempotencyLayerBuilder { config: (self.preset)(self.name, self.idempotency, scope), problem_base: None }
    }
}

/// Builds an [`IdempotencyLayer`]. The defaults named here are those of the preset [`ietf`](IdempotencyLayer::ietf).
#[derive(Debug)]
#[must_use]
pub struct IdempotencyLayerBuilder {
    config: Config,
    problem_base: Option<String>,
}

impl IdempotencyLayerBuilder {
    /// Lets requests without a key pass, unprotected. By default, they are refused.
    pub const fn optional(mut self) -> Self {
        self.config.required = false;
        self
    }

    /// Refuses requests without a key. The default.
    pub const fn required(mut self) -> Self {
        self.config.required = true;
        self
    }

    /// Sets the header that has the key: `Idempotency-Key` by default.
    pub fn header(mut self, name: HeaderName) -> Self {
        self.config.header = name;
        self
    }

    /// Sets the methods that take a key: POST and PATCH by default. A request with another method passes as if there were no
    /// layer.
    pub fn methods(mut self, methods: impl IntoIterator<Item = Method>) -> Self {
        self.config.methods = methods.into_iter().collect();
        self
    }

    /// Sets the syntax of keys: [`KeyFormat::Lenient`] by default.
    pub const fn key_format(mut self, format: KeyFormat) -> Self {
        self.config.format = format;
        self
    }

    /// Adds a condition on keys. The function gets the key without quotation marks and escapes; `false` refuses the request
    /// with 400.
    pub fn valid_key(mut self, is_valid: impl Fn(&str) -> bool + Send + Sync + 'static) -> Self {
        self.config.valid = Some(Arc::new(is_valid));
        self
    }

    /// Sets the parts of a request that must be the same in a repeat: [`RequestFingerprint::bytes`] by default.
    pub fn fingerprint(mut self, fingerprint: RequestFingerprint) -> Self {
        self.config.fingerprint = fingerprint;
        self
    }

    /// Decides by the status which responses are kept and replayed. After any other response the key is free, and a repeat runs
    /// the handler again. By default, all but 5xx, 408, 425 and 429 are kept. See also [`NotBegun`](super::NotBegun).
    ///
    /// A response of gRPC, whose status is 200, must also have a `grpc-status` that is kept: see the [module](super#grpc).
    pub fn keep_status(mut self, keep: impl Fn(StatusCode) -> bool + Send + Sync + 'static) -> Self {
        self.config.keep = Arc::new(keep);
        self
    }

    /// Sets the response headers that are kept, in place of the default ones:
    ///
    /// - headers of the body: Cache-Control, Content-Digest, Content-Disposition, Content-Encoding, Content-Language,
    ///   Content-Location, Content-Range, Content-Security-Policy, Content-Type, `ETag`, Expires, Last-Modified, Link, Repr-Digest,
    ///   Vary, X-Content-Type-Options;
    /// - headers of a status: Location (201, 3xx), Retry-After (202, 413), Allow (405), Accept, Accept-Encoding, Accept-Patch and
    ///   Accept-Post (415), Preference-Applied (2xx), and, with a 401 only, WWW-Authenticate.
    ///
    /// Of gRPC, all metadata is kept, whatever is set here.
    pub fn keep_headers(mut self, names: impl IntoIterator<Item = HeaderName>) -> Self {
        self.config.headers = KeptHeaders::These(names.into_iter().collect());
        self
    }

    /// Sets the largest body of a request with a key, in bytes: 1 MiB by default. The body is read before the handler runs; a
    /// larger one is refused with 413.
    pub const fn max_request_body(mut self, bytes: usize) -> Self {
        self.config.max_request_body = bytes;
        self
    }

    /// Sets the largest response body that is kept, in bytes: 512 KiB by default. A larger one reaches the first client whole,
    /// and repeats get [`Error::ResultNotKept`](crate::Error::ResultNotKept), a 500. The handle's
    /// [`max_result_len`](crate::IdempotencyBuilder::max_result_len) is a limit as well.
    pub const fn max_response_body(mut self, bytes: usize) -> Self {
        self.config.max_response_body = bytes;
        self
    }

    /// Lets a repeat wait for the running request, to get its response. Zero, the default, refuses the repeat at once.
    pub fn wait(self, wait: Duration) -> Self {
        self.operation(|operation| operation.wait(wait))
    }

    /// Keeps a response for this long, counted from its completion: 24 hours by default.
    pub fn ttl(self, ttl: Duration) -> Self {
        self.operation(|operation| operation.ttl(ttl))
    }

    /// Sets the time after which a claim that was not renewed may be taken over: 30 seconds by default. It is renewed while the
    /// handler runs.
    pub fn lease(self, lease: Duration) -> Self {
        self.operation(|operation| operation.lease(lease))
    }

    /// Decides about repeats after a handler ended without a response: a panic, an error of the service, a crash, the end of
    /// [`run_on`](Self::run_on). By default, a repeat runs the handler again.
    pub fn abandoned(self, abandoned: OnAbandoned) -> Self {
        self.operation(|operation| operation.abandoned(abandoned))
    }

    /// Limits the time that a handler may run after its client has gone: a minute by default.
    pub const fn run_on(mut self, limit: Duration) -> Self {
        self.config.run_on = limit;
        self
    }

    /// Sets the base of problem types, the address of their documentation: with `https://api.example.com/problems/`, a
    /// mismatch has the type `https://api.example.com/problems/mismatch`.
    pub fn problem_base(mut self, url: impl Into<String>) -> Self {
        self.problem_base = Some(url.into());
        self
    }

    fn operation(mut self, change: impl FnOnce(crate::Operation) -> crate::Operation) -> Self {
        self.config.operation = change(self.config.operation);
        self
    }

    /// Builds the layer.
    ///
    /// # Errors
    ///
    /// If a setting cannot work. The text names the setting.
    pub fn build(self) -> Result<IdempotencyLayer, SetupError> {
        let Self { mut config, problem_base } = self;
        let is_base = problem_base.as_deref().is_none_or(is_base);
        let unused_base = problem_base.is_some() && config.dialect == Dialect::Stripe;
        if let Some(base) = problem_base {
            config.dialect = Dialect::Problem { base };
        }
        let headers: &[HeaderName] = match &config.headers {
            KeptHeaders::Default => &[],
            KeptHeaders::These(names) => names,
        };
        let wrong = [
            (config.methods.is_empty(), "`methods` is empty: no method takes a key"),
            (
                config.methods.iter().any(|method| method.is_safe() || *method == Method::CONNECT),
                "`methods` has GET, HEAD, OPTIONS, TRACE or CONNECT, which take no key",
            ),
            (
                headers.iter().any(is_of_one_response),
                "`keep_headers` has a header that belongs to one response, such as `Date`: it cannot be kept",
            ),
            (
                headers.contains(&SET_COOKIE),
                "`keep_headers` has `Set-Cookie`: a cookie is for one client and cannot be kept",
            ),
            (
                !(1..=255).contains(&config.operation.name.len()),
                "the name of the service is empty or longer than 255 bytes",
            ),
            (config.max_response_body == 0, "`max_response_body` is zero"),
            (unused_base, "`problem_base` has no use with a preset for Stripe, whose errors are not problem documents"),
            (!is_base, "`problem_base` must be a URI that ends with `/`, `#`, `:` or `=`"),
        ];
        if let Some((_, what)) = wrong.into_iter().find(|(is_wrong, _)| *is_wrong) {
            return Err(SetupError::Setting(what));
        }
        crate::engine::check_durations(config.operation.lease, config.operation.ttl)
            .map_err(|error| SetupError::Setting(error.text()))?;
        Ok(IdempotencyLayer::new(config))
    }
}

/// True if the URI makes another URI with a code after it.
fn is_base(base: &str) -> bool {
    let is_uri = base.starts_with("urn:") || base.split('#').next().is_some_and(|base| base.parse::<Uri>().is_ok());
    is_uri && base.ends_with(['/', '#', ':', '=']) && base.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'>')
}

/// True if a header is hop by hop, or made anew for every response.
pub(super) fn is_of_one_response(name: &HeaderName) -> bool {
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
        preset: fn(&'static str, Idempotency) -> ChooseScope,
        settings: impl FnOnce(IdempotencyLayerBuilder) -> IdempotencyLayerBuilder,
    ) -> String {
        settings(preset("shop", Idempotency::memory()).unscoped()).build().unwrap_err().to_string()
    }

    #[test]
    fn what_cannot_work_is_refused() {
        let ietf = |settings: fn(IdempotencyLayerBuilder) -> IdempotencyLayerBuilder| {
            refused(IdempotencyLayer::ietf, settings)
        };
        assert!(ietf(|builder| builder.methods([])).contains("no method"));
        for method in [Method::GET, Method::HEAD, Method::OPTIONS, Method::TRACE, Method::CONNECT] {
            let methods = |builder: IdempotencyLayerBuilder| builder.methods([Method::POST, method]);
            assert!(refused(IdempotencyLayer::ietf, methods).contains("which take no key"));
        }
        assert!(ietf(|builder| builder.keep_headers([ETAG, SET_COOKIE])).contains("cookie"));
        for name in ["date", "connection", "keep-alive", "transfer-encoding", "content-length", "trailer", "upgrade"] {
            let headers = |builder: IdempotencyLayerBuilder| builder.keep_headers([HeaderName::from_static(name)]);
            assert!(refused(IdempotencyLayer::ietf, headers).contains("belongs to one response"), "{name}");
        }
        for name in ["", &"n".repeat(256)] {
            let layer = IdempotencyLayer::ietf(name.to_owned(), Idempotency::memory()).unscoped().build();
            assert!(layer.unwrap_err().to_string().contains("name"), "{name}");
        }
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
            let layer = IdempotencyLayer::ietf("shop", Idempotency::memory()).unscoped().problem_base(base).build();
            assert!(layer.is_ok(), "{base}");
        }
        assert!(IdempotencyLayer::stripe_v2("n".repeat(255), Idempotency::memory()).scope(|_| None).build().is_ok());
    }
}
