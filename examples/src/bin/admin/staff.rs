//! The authentication of the service around the page: HTTP's own, with one user. A service has its own here.

use axum::{
    extract::{Request, State},
    http::{HeaderMap, StatusCode, header, request::Parts},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use sha2::{Digest as _, Sha256};

/// The one who may come in.
#[derive(Clone)]
pub(crate) struct Login {
    pub(crate) user: String,
    pub(crate) password: String,
}

/// The person who has come in, in the extensions of a request.
#[derive(Clone)]
pub(crate) struct Staff {
    pub(crate) name: String,
}

/// Asked by the page.
pub(crate) fn staff(request: &Parts) -> Option<&Staff> {
    request.extensions.get()
}

pub(crate) async fn authenticate(State(login): State<Login>, mut request: Request, next: Next) -> Response {
    if !is_known(&login, request.headers()) {
        let challenge = [(header::WWW_AUTHENTICATE, "Basic realm=\"operators\", charset=\"UTF-8\"")];
        return (StatusCode::UNAUTHORIZED, challenge, "Log in.").into_response();
    }
    request.extensions_mut().insert(Staff { name: login.user });
    next.run(request).await
}

fn is_known(login: &Login, headers: &HeaderMap) -> bool {
    let sent = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Basic "));
    let sent = sent.and_then(|text| STANDARD.decode(text).ok());
    let expected = format!("{}:{}", login.user, login.password);
    // Of hashes: how long it takes to compare them says nothing of the password.
    sent.is_some_and(|sent| Sha256::digest(&sent) == Sha256::digest(expected.as_bytes()))
}
