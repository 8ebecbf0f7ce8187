//! Authentication: the account that sends a request.

use axum::{extract::Request, middleware::Next, response::Response};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use http::{HeaderMap, header::AUTHORIZATION};

use crate::stripe::Refused;

/// The secret keys, each with its account.
pub(crate) const SECRETS: [(&str, &str); 2] = [("sk_test_acme", "acct_acme"), ("sk_test_globex", "acct_globex")];

/// The account that sent the request. [`authenticate`] puts it into the request's extensions.
#[derive(Clone, Copy)]
pub(crate) struct Account(pub(crate) &'static str);

/// Authenticates a request. It stands outside the idempotency layer: the layer reads its scope from here, and keeps nothing of
/// the requests that are refused here.
pub(crate) async fn authenticate(mut request: Request, next: Next) -> Result<Response, Refused> {
    let account = account(request.headers()).ok_or(Refused::Unauthorized)?;
    request.extensions_mut().insert(account);
    Ok(next.run(request).await)
}

/// Reads the secret key: a bearer token, or the user name of `curl -u`.
fn account(headers: &HeaderMap) -> Option<Account> {
    let (scheme, credentials) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    let secret = if scheme.eq_ignore_ascii_case("basic") {
        String::from_utf8(BASE64_STANDARD.decode(credentials).ok()?).ok()?.trim_end_matches(':').to_owned()
    } else {
        credentials.to_owned()
    };
    SECRETS.into_iter().find(|(of, _)| *of == secret).map(|(_, account)| Account(account))
}
