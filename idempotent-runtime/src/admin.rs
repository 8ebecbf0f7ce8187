//! A page for operators, to be mounted in a service's own axum router: what needs somebody, each record with what its next call
//! would get, and the resolution of what a run left open.
//!
//! ```
//! use axum::{Router, extract::Request, middleware::{Next, from_fn}, response::Response};
//! use http::request::Parts;
//! use idempotent_runtime::{Idempotency, admin::Admin};
//!
//! /// As the service's authentication leaves it in the extensions of a request.
//! #[derive(Clone)]
//! struct Staff {
//!     name: String,
//!     is_on_call: bool,
//! }
//!
//! fn staff(request: &Parts) -> Option<&Staff> {
//!     request.extensions.get()
//! }
//!
//! # async fn authenticate(request: Request, next: Next) -> Response { next.run(request).await }
//! let idempotency = Idempotency::memory();
//! let page = Admin::new(idempotency, |request| staff(request).is_some())
//!     .who_may_act(|request| staff(request).filter(|staff| staff.is_on_call).map(|staff| staff.name.clone()))
//!     .router();
//! // The page is at /ops/idempotency. The layer that authenticates is around it.
//! let service: Router = Router::new().nest("/ops/idempotency", page).layer(from_fn(authenticate));
//! # let _ = service;
//! ```
//!
//! # Who may do what
//!
//! The page knows no users. It asks the service around it, by closures over the head of each request:
//!
//! | closure | without it | |
//! |---|---|---|
//! | `may_see`, an argument of [`new`](Admin::new) | there is no page without it | Says who may see the page: keys, states, contexts. |
//! | [`who_may_act`](Admin::who_may_act) | nobody | Names the operator who resolves records. The record keeps the name, the time and the reason. |
//! | [`may_reveal`](Admin::may_reveal) | nobody | Says who may see stored bytes: arguments, results, errors, steps. |
//!
//! A request that may not see the page gets a 403 and nothing else. The address of a record has its operation and key: an access log of
//! requests' addresses then has them, too.
//!
//! # How a record is resolved
//!
//! As with [`Operator::resolve`](crate::operator::Operator::resolve): a record is changed only if it is the one that the operator saw. Of
//! two operators, or of an operator and a run, one comes first, and the other is told. A run that is alive is left alone: the page
//! has no way to force it.
//!
//! A form is taken from its own page only. It carries a token, an HMAC over the operator's name, the record's key, what was seen, and the time
//! until which it may be sent. The browser has to say that the form is of the same origin (`Sec-Fetch-Site`, or else an `Origin` that is
//! the `Host`). Without [`secret`](Admin::secret) each process draws a secret of its own: where several serve the page, give them one.
//!
//! # What a view costs
//!
//! A view looks at 5,000 records at most, or for two seconds, in pages of 500. Where there are more it says so, and a link goes on from there. The
//! page has no scripts, and loads nothing from elsewhere. Its links are relative, so that it works below any path; it lives at
//! `start` below its mount, to which the mount itself redirects.
//!
//! The calls of the last hour are those of this process, through any handle, since the page was made. They are counted in memory.

mod csrf;
mod guard;
mod look;
mod resolve;
mod show;
mod views;

use std::{fmt, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{DefaultBodyLimit, OriginalUri},
    middleware::{from_fn_with_state, map_response},
    response::{IntoResponse, Redirect},
    routing::{get, post},
};
use http::{HeaderName, header::CONTENT_TYPE, request::Parts};

use self::{csrf::Seals, guard::Access, look::ParkedHook};
use crate::{engine::recent, idempotency::Idempotency};

/// The page for operators, while it is set up. [`router`](Self::router) makes it. See the [module](self).
#[must_use = "the page is where its router is"]
pub struct Admin {
    idempotency: Idempotency,
    access: Access,
    secret: [u8; 32],
    form_lifetime: Duration,
    parked: Option<ParkedHook>,
}

/// The parts that all requests share.
struct Page {
    idempotency: Idempotency,
    access: Access,
    seals: Seals,
    parked: Option<ParkedHook>,
}

impl Admin {
    /// A page about the records of this handle, for requests that `may_see` it. Nothing can be changed by it, and stored bytes are
    /// hidden.
    ///
    /// `may_see` is asked for each request, so it is quick: it looks at what the service's authentication has left in the extensions.
    /// `|_| true` shows the page to whoever can reach it.
    pub fn new(idempotency: Idempotency, may_see: impl Fn(&Parts) -> bool + Send + Sync + 'static) -> Self {
        let access = Access { may_see: Arc::new(may_see), who_may_act: None, may_reveal: None };
        let (secret, form_lifetime) = (rand::random(), Self::FORM_LIFETIME);
        Self { idempotency, access, secret, form_lifetime, parked: None }
    }

    /// The time for which a form may be open, unless said otherwise: an hour.
    pub const FORM_LIFETIME: Duration = Duration::from_secs(60 * 60);

    /// Lets those resolve records whom this names: `None`, or a blank name, may only look.
    ///
    /// The name has to be one that the service has authenticated. It is in the record's context, and each form is bound to it.
    pub fn who_may_act(mut self, who: impl Fn(&Parts) -> Option<String> + Send + Sync + 'static) -> Self {
        self.access.who_may_act = Some(Arc::new(who));
        self
    }

    /// Shows stored bytes (arguments, results, errors, steps) to these requests.
    pub fn may_reveal(mut self, may: impl Fn(&Parts) -> bool + Send + Sync + 'static) -> Self {
        self.access.may_reveal = Some(Arc::new(may));
        self
    }

    /// Sets the secret under which forms are sealed, for several processes that serve one page. Unless said otherwise, each process
    /// draws its own, and a form of another process, or of before a restart, is refused.
    pub const fn secret(mut self, secret: [u8; 32]) -> Self {
        self.secret = secret;
        self
    }

    /// Sets the time for which a form may be open. [`FORM_LIFETIME`](Self::FORM_LIFETIME) unless said otherwise; a form that is sent
    /// later is refused.
    pub const fn form_lifetime(mut self, time: Duration) -> Self {
        self.form_lifetime = time;
        self
    }

    /// Shows the parked messages of this outbox, too.
    #[cfg(all(feature = "outbox", any(feature = "postgres", feature = "sqlite")))]
    pub fn outbox<DB: crate::outbox::OutboxDatabase>(
        mut self,
        outbox: &crate::outbox::Outbox,
        pool: &sqlx::Pool<DB>,
    ) -> Self {
        self.parked = Some(look::parked_hook(outbox.clone(), pool.clone()));
        self
    }

    /// The page, to be mounted with [`nest`](Router::nest). From here on, the calls of this process are counted for it.
    pub fn router<S: Clone + Send + Sync + 'static>(self) -> Router<S> {
        recent::begin();
        let Self { idempotency, access, secret, form_lifetime, parked } = self;
        // A result as a form writes it: each byte takes up to three.
        let max_form_len = idempotency.shared.limits.max_result_len.saturating_mul(3).saturating_add(16 << 10);
        let page = Arc::new(Page { idempotency, access, seals: Seals::new(&secret, form_lifetime), parked });
        let guarded = Router::new()
            .route("/start", get(show::start))
            .route("/records", get(show::records))
            .route("/record", get(show::record))
            .route("/resolve", post(resolve::resolve))
            .fallback(show::nothing)
            .layer(DefaultBodyLimit::max(max_form_len))
            .layer(from_fn_with_state(Arc::clone(&page), guard::guard))
            .with_state(page);
        let style = || asset("text/css; charset=utf-8", include_str!("admin/style.css"));
        let icon = || asset("image/svg+xml", include_str!("admin/icon.svg"));
        let open = Router::new()
            .route("/", get(to_start))
            .route("/style.css", get(async move || style()))
            .route("/icon.svg", get(async move || icon()));
        guarded.merge(open).layer(map_response(guard::with_headers))
    }
}

/// The mount is a path with or without a slash at its end: a browser reads relative addresses from the last one.
async fn to_start(OriginalUri(uri): OriginalUri) -> Redirect {
    let last = uri.path().rsplit('/').next().unwrap_or_default();
    Redirect::to(&if last.is_empty() { "start".to_owned() } else { format!("./{last}/start") })
}

fn asset(content_type: &'static str, text: &'static str) -> impl IntoResponse {
    let header: [(HeaderName, &str); 1] = [(CONTENT_TYPE, content_type)];
    (header, text)
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admin").field("idempotency", &self.idempotency).finish_non_exhaustive()
    }
}
