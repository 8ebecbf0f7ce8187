//! Who may come in: the caller's hooks, the origin of a form, and the headers of every answer.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use http::{
    HeaderMap, HeaderValue, Method, StatusCode,
    header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, HOST, ORIGIN, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS},
    request::Parts,
};

use super::{Page, views};

/// The most characters of an operator's name that are kept.
const MAX_NAME_LEN: usize = 100;

pub(super) type MayHook = Arc<dyn Fn(&Parts) -> bool + Send + Sync>;
pub(super) type WhoHook = Arc<dyn Fn(&Parts) -> Option<String> + Send + Sync>;

/// The hooks of the service around the page.
pub(super) struct Access {
    pub(super) may_see: MayHook,
    pub(super) who_may_act: Option<WhoHook>,
    pub(super) may_reveal: Option<MayHook>,
}

/// The rights of a request that may see the page, as the hooks say.
#[derive(Clone, Debug)]
pub(super) struct Rights {
    /// The name of whoever may act.
    pub(super) operator: Option<String>,
    /// True if stored bytes are shown.
    pub(super) may_reveal: bool,
}

impl Access {
    fn rights(&self, request: &Parts) -> Option<Rights> {
        (self.may_see)(request).then(|| {
            let name = self.who_may_act.as_ref().and_then(|who| who(request));
            let name = name.map(|name| name.trim().chars().take(MAX_NAME_LEN).collect::<String>());
            Rights {
                operator: name.filter(|name| !name.is_empty()),
                may_reveal: self.may_reveal.as_ref().is_some_and(|may| may(request)),
            }
        })
    }
}

/// Lets a request in that may see the page, and a form only from the page itself.
pub(super) async fn guard(State(page): State<Arc<Page>>, request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    let Some(rights) = page.access.rights(&parts) else {
        let text = "The service does not let you see this page.";
        return (StatusCode::FORBIDDEN, views::message("Not allowed", &[text], None)).into_response();
    };
    if !matches!(parts.method, Method::GET | Method::HEAD) && !is_same_origin(&parts) {
        let text = "The form was not sent from this page. Nothing was changed.";
        return (StatusCode::FORBIDDEN, views::message("Not allowed", &[text], Some(&rights))).into_response();
    }
    parts.extensions.insert(rights);
    next.run(Request::from_parts(parts, body)).await
}

/// True if the browser says that the form is of this page's own origin. A browser without `Sec-Fetch-Site`, or one that
/// reached us by plain HTTP, sends `Origin` with each form. It is compared without its scheme, which a proxy may change.
fn is_same_origin(request: &Parts) -> bool {
    if let Some(site) = request.headers.get("sec-fetch-site") {
        return site == "same-origin";
    }
    let origin = text(&request.headers, &ORIGIN).and_then(|origin| origin.split_once("://")).map(|(_, host)| host);
    let host = text(&request.headers, &HOST).or_else(|| request.uri.authority().map(http::uri::Authority::as_str));
    origin.zip(host).is_some_and(|(origin, host)| origin.eq_ignore_ascii_case(host))
}

fn text<'a>(headers: &'a HeaderMap, name: &http::HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// No scripts, nothing from elsewhere, in no frame, in no cache.
const POLICY: &str =
    "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

pub(super) async fn with_headers(mut response: Response) -> Response {
    // `no-referrer` would have browsers send `Origin: null` with our own forms.
    for (name, value) in [
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "same-origin"),
        (CACHE_CONTROL, "no-store"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_origin_of_a_form_is_this_page() {
        for (headers, expected) in [
            (&[("sec-fetch-site", "same-origin")][..], true),
            (&[("sec-fetch-site", "same-site")], false),
            (&[("sec-fetch-site", "cross-site"), ("origin", "https://shop.example"), ("host", "shop.example")], false),
            (&[("sec-fetch-site", "none"), ("host", "shop.example")], false),
            (&[("origin", "https://shop.example"), ("host", "shop.example")], true),
            (&[("origin", "http://shop.example:8080"), ("host", "SHOP.example:8080")], true),
            (&[("origin", "https://shop.example:8080"), ("host", "shop.example")], false),
            (&[("origin", "https://evil.example"), ("host", "shop.example")], false),
            (&[("origin", "null"), ("host", "shop.example")], false),
            (&[("host", "shop.example")], false),
            (&[], false),
        ] {
            let mut request = http::Request::post("/resolve");
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            let (parts, ()) = request.body(()).expect("a request").into_parts();
            assert_eq!(is_same_origin(&parts), expected, "{headers:?}");
        }
    }
}
