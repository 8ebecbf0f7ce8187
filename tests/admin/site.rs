//! The page, mounted in a service whose authentication is a header, and what it answers.

use std::{fmt::Write as _, time::Duration};

use axum::{Router, body::Body};
use http::{HeaderMap, Method, Request, StatusCode, header::CONTENT_TYPE, request::Parts};
use http_body_util::BodyExt as _;
use idempotent_runtime::{Idempotency, admin::Admin};
use tower::ServiceExt as _;

/// The path of the page in the service.
pub(crate) const MOUNT: &str = "/ops/idempotency";

/// Somebody who comes in. The service believes their headers.
#[derive(Clone, Copy)]
pub(crate) struct Person(&'static [(&'static str, &'static str)]);

pub(crate) const NOBODY: Person = Person(&[]);
pub(crate) const READER: Person = Person(&[("x-sees", "")]);
pub(crate) const REVEALER: Person = Person(&[("x-sees", ""), ("x-reveals", "")]);
pub(crate) const ALICE: Person = Person(&[("x-sees", ""), ("x-acts", "alice")]);
pub(crate) const BOB: Person = Person(&[("x-sees", ""), ("x-acts", "bob")]);

/// The page with hooks that read these headers.
pub(crate) fn admin(idempotency: &Idempotency) -> Admin {
    let has = |name: &'static str| move |request: &Parts| request.headers.contains_key(name);
    let acts = |request: &Parts| Some(request.headers.get("x-acts")?.to_str().ok()?.to_owned());
    Admin::new(idempotency.clone(), has("x-sees")).who_may_act(acts).may_reveal(has("x-reveals"))
}

/// A service with the page.
#[derive(Clone)]
pub(crate) struct Site(Router);

/// An answer.
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Site {
    pub(crate) fn new(idempotency: &Idempotency) -> Self {
        Self::of(admin(idempotency))
    }

    pub(crate) fn of(admin: Admin) -> Self {
        Self(Router::new().nest(MOUNT, admin.router()))
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Reply {
        let (parts, body) = self.0.clone().oneshot(request).await.unwrap().into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let body = String::from_utf8(body.into()).unwrap();
        Reply { status: parts.status, headers: parts.headers, body }
    }

    /// Asks for a view: `start`, `record?…`.
    pub(crate) async fn get(&self, person: Person, view: &str) -> Reply {
        self.send(request(person, Method::GET, view).body(Body::empty()).unwrap()).await
    }

    /// Sends a form as the browser of somebody who has the page open.
    pub(crate) async fn post(&self, person: Person, form: &Form) -> Reply {
        self.post_from(person, form, &[("sec-fetch-site", "same-origin")]).await
    }

    pub(crate) async fn post_from(&self, person: Person, form: &Form, headers: &[(&str, &str)]) -> Reply {
        let mut request =
            request(person, Method::POST, "resolve").header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request.body(Body::from(form.text())).unwrap()).await
    }

    /// The form of a record's view, filled in by nobody yet.
    pub(crate) async fn form(&self, person: Person, operation: &str, key: &str) -> Form {
        let view = self.get(person, &record(operation, key)).await;
        assert_eq!(view.status, StatusCode::OK, "{}", view.body);
        Form::of(&view.body)
    }
}

fn request(person: Person, method: Method, view: &str) -> http::request::Builder {
    let mut request = Request::builder().method(method).uri(format!("{MOUNT}/{view}")).header("host", "shop.example");
    for (name, value) in person.0 {
        request = request.header(*name, *value);
    }
    request
}

/// The address of a record's view.
pub(crate) fn record(operation: &str, key: &str) -> String {
    format!("record?operation={}&key={}", encoded(operation), encoded(key))
}

fn encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut encoded, byte| {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' => encoded.push(char::from(byte)),
            _ => write!(encoded, "%{byte:02X}").unwrap(),
        }
        encoded
    })
}

/// The fields of a form.
#[derive(Clone)]
pub(crate) struct Form(Vec<(String, String)>);

impl Form {
    /// The hidden fields of the form in a view. None of their values has a character that HTML escapes.
    #[track_caller]
    fn of(html: &str) -> Self {
        let form = html.split_once("<form class=\"resolve\"").unwrap_or_else(|| panic!("no form in {html}")).1;
        let fields = ["operation", "key", "seen", "token"].map(|name| {
            let value = form.split_once(&format!("name=\"{name}\" value=\"")).unwrap().1.split_once('"').unwrap().0;
            (name.to_owned(), value.to_owned())
        });
        Self(fields.into())
    }

    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.0.retain(|(other, _)| other != name);
        self.0.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn without(mut self, name: &str) -> Self {
        self.0.retain(|(other, _)| other != name);
        self
    }

    pub(crate) fn value(&self, name: &str) -> &str {
        &self.0.iter().find(|(other, _)| other == name).unwrap().1
    }

    fn text(&self) -> String {
        self.0.iter().map(|(name, value)| format!("{name}={}", encoded(value))).collect::<Vec<_>>().join("&")
    }
}

impl Reply {
    #[track_caller]
    pub(crate) fn with(self, status: StatusCode) -> Self {
        assert_eq!(self.status, status, "{}", self.body);
        self
    }

    /// Asserts that the view has these texts.
    #[track_caller]
    pub(crate) fn shows(&self, texts: &[&str]) -> &Self {
        for text in texts {
            assert!(self.body.contains(text), "{text:?} is not in {}", self.body);
        }
        self
    }

    /// Asserts that it has none of these.
    #[track_caller]
    pub(crate) fn hides(&self, texts: &[&str]) -> &Self {
        for text in texts {
            assert!(!self.body.contains(text), "{text:?} is in {}", self.body);
        }
        self
    }

    pub(crate) fn location(&self) -> &str {
        self.headers["location"].to_str().unwrap()
    }
}

/// A time in which no test ends.
pub(crate) const LONG: Duration = Duration::from_hours(1);
