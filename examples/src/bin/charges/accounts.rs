//! Who asks.

use axum::{extract::Request, middleware::Next, response::Response};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use http::{HeaderMap, header::AUTHORIZATION};

use crate::stripe::Refused;

/// The secret keys that there are, and whose they are.
pub(crate) const SECRETS: [(&str, &str); 2] = [("sk_test_acme", "acct_acme"), ("sk_test_globex", "acct_globex")];

/// Whose request it is. Left in the request's extensions by [`authenticate`].
#[derive(Clone, Copy)]
pub(crate) struct Account(pub(crate) &'static str);

/// Outside of the idempotency layer, which keeps nothing of what is refused here, and has its scope from here.
pub(crate) async fn authenticate(mut request: Request, next: Next) -> Result<Response, Refused> {
    let account = account(request.headers()).ok_or(Refused::Unauthorized)?;
    request.extensions_mut().insert(account);
    Ok(next.run(request).await)
}

/// The secret key is a bearer token, or the user name of `curl -u`.
fn account(headers: &HeaderMap) -> Option<Account> {
    let (scheme, credentials) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    let secret = if scheme.eq_ignore_ascii_case("basic") {
        String::from_utf8(BASE64_STANDARD.decode(credentials).ok()?).ok()?.trim_end_matches(':').to_owned()
    } else {
        credentials.to_owned()
    };
    SECRETS.into_iter().find(|(of, _)| *of == secret).map(|(_, account)| Account(account))
}
