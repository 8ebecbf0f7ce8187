//! Deliveries, signed as their senders do.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

/// The secrets that the program is started with.
pub(crate) const STRIPE_SECRET: &str = "whsec_of-stripe";
pub(crate) const GITHUB_SECRET: &str = "of github";
/// The key that follows `whsec_` in a secret, decoded.
pub(crate) const STANDARD_KEY: &str = "of the shop that follows the standard";

pub(crate) fn standard_secret(key: &str) -> String {
    format!("whsec_{}", BASE64_STANDARD.encode(key))
}

pub(crate) const ENDPOINTS: [&str; 4] = ["/hooks/stripe", "/hooks/github", "/hooks/standard", "/hooks/standard/queued"];

/// A request.
#[derive(Clone, Debug)]
pub(crate) struct Delivery {
    pub(crate) endpoint: &'static str,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: String,
}

impl Delivery {
    /// The header with the signature.
    pub(crate) fn signature(&mut self) -> &mut String {
        let names = ["stripe-signature", "x-hub-signature-256", "webhook-signature"];
        &mut self.headers.iter_mut().find(|(name, _)| names.contains(name)).unwrap().1
    }
}

/// Seconds since 1970, and this many more.
pub(crate) fn now(more: i64) -> i64 {
    #[expect(clippy::disallowed_methods, reason = "the senders' clock, which is not the store's")]
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(now.as_secs()).unwrap() + more
}

pub(crate) fn hmac(key: &[u8], signed: &str) -> Vec<u8> {
    Hmac::<Sha256>::new_from_slice(key).unwrap().chain_update(signed).finalize().into_bytes().to_vec()
}

/// An attempt at this time to deliver a body, signed with this secret.
pub(crate) fn stripe(body: &str, time: i64, secret: &str) -> Delivery {
    let signature = hex::encode(hmac(secret.as_bytes(), &format!("{time}.{body}")));
    let headers = vec![("stripe-signature", format!("t={time},v1={signature}"))];
    Delivery { endpoint: ENDPOINTS[0], headers, body: body.to_owned() }
}

pub(crate) fn github(body: &str, id: &str, secret: &str) -> Delivery {
    let signature = hex::encode(hmac(secret.as_bytes(), body));
    let headers = vec![
        ("x-github-event", "push".to_owned()),
        ("x-github-delivery", id.to_owned()),
        ("x-hub-signature-256", format!("sha256={signature}")),
    ];
    Delivery { endpoint: ENDPOINTS[1], headers, body: body.to_owned() }
}

pub(crate) fn standard(endpoint: &'static str, body: &str, id: &str, time: i64, key: &str) -> Delivery {
    let signature = BASE64_STANDARD.encode(hmac(key.as_bytes(), &format!("{id}.{time}.{body}")));
    let headers = vec![
        ("webhook-id", id.to_owned()),
        ("webhook-timestamp", time.to_string()),
        ("webhook-signature", format!("v1,{signature}")),
    ];
    Delivery { endpoint, headers, body: body.to_owned() }
}

/// An event, by its endpoint, id and version: its object is the same for all of an endpoint's, its status is `s` and
/// the version.
pub(crate) fn event(endpoint: &'static str, id: &str, version: i64) -> Delivery {
    match endpoint {
        "/hooks/stripe" => {
            let body = format!(
                r#"{{"id":"{id}","type":"customer.subscription.updated","created":{version},"pending_webhooks":1,
                "data":{{"object":{{"id":"sub","status":"s{version}"}}}}}}"#
            );
            stripe(&body, now(0), STRIPE_SECRET)
        }
        "/hooks/github" => {
            let body = format!(
                r#"{{"ref":"main","after":"s{version}","repository":{{"full_name":"octo","pushed_at":{version}}}}}"#
            );
            github(&body, id, GITHUB_SECRET)
        }
        _ => {
            let data = format!(r#"{{"id":"{endpoint}","status":"s{version}","version":{version}}}"#);
            standard(endpoint, &format!(r#"{{"type":"order.paid","data":{data}}}"#), id, now(0), STANDARD_KEY)
        }
    }
}

/// The object of [`event`]s.
pub(crate) fn object(endpoint: &str) -> &str {
    match endpoint {
        "/hooks/stripe" => "sub",
        "/hooks/github" => "octo main",
        _ => endpoint,
    }
}
