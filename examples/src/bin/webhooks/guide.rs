//! Commands to try the server with.

use std::{fmt::Write as _, net::SocketAddr};

use crate::senders::Secrets;

/// Commands for a shell. Each signs its request with the current time.
const COMMANDS: &str = r#"
# Stripe: a subscription becomes active. Send it as often as you like.
body='{"id":"evt_2","object":"event","type":"customer.subscription.updated","created":1700000002,"data":{"object":{"id":"sub_1","status":"active"}}}'
t=$(date +%s); signature=$(printf %s "$t.$body" | openssl dgst -sha256 -hmac "$STRIPE_WEBHOOK_SECRET" -r | cut -d' ' -f1)
curl -sSw '\n' "$url/hooks/stripe" -H "Stripe-Signature: t=$t,v1=$signature" -d "$body"

# An older event arrives late: it is noted, and does not overwrite the newer one.
body='{"id":"evt_1","object":"event","type":"customer.subscription.created","created":1700000001,"data":{"object":{"id":"sub_1","status":"incomplete"}}}'
t=$(date +%s); signature=$(printf %s "$t.$body" | openssl dgst -sha256 -hmac "$STRIPE_WEBHOOK_SECRET" -r | cut -d' ' -f1)
curl -sSw '\n' "$url/hooks/stripe" -H "Stripe-Signature: t=$t,v1=$signature" -d "$body"

# GitHub: a push.
body='{"ref":"refs/heads/main","after":"6dcb09b5b57875f334f61aebed695e2e4193db5e","repository":{"full_name":"octo/hello","pushed_at":1700000003}}'
signature=$(printf %s "$body" | openssl dgst -sha256 -hmac "$GITHUB_WEBHOOK_SECRET" -r | cut -d' ' -f1)
curl -sSw '\n' "$url/hooks/github" -H "X-GitHub-Event: push" -H "X-GitHub-Delivery: 72d3162e-cc78-11e3-81ab-4c9367dc0958" -H "X-Hub-Signature-256: sha256=$signature" -d "$body"

# Standard Webhooks: an order is paid. The second endpoint accepts it with a 202, and a worker processes it.
body='{"type":"order.paid","timestamp":"2026-01-01T12:00:00Z","data":{"id":"order_1","status":"paid","version":2}}'
key=$(printf %s "${STANDARD_WEBHOOK_SECRET#whsec_}" | base64 -d | od -An -v -tx1 | tr -d ' \n')
t=$(date +%s); signature=$(printf %s "msg_1.$t.$body" | openssl dgst -sha256 -mac HMAC -macopt "hexkey:$key" -binary | base64)
curl -sSw '\n' "$url/hooks/standard" -H "webhook-id: msg_1" -H "webhook-timestamp: $t" -H "webhook-signature: v1,$signature" -d "$body"
curl -sSw '\n' "$url/hooks/standard/queued" -H "webhook-id: msg_1" -H "webhook-timestamp: $t" -H "webhook-signature: v1,$signature" -d "$body"

# The current state.
curl -sSw '\n' "$url/"
"#;

/// Writes the address, and the commands for it.
pub(crate) fn guide(address: SocketAddr, secrets: &Secrets) -> String {
    let mut text = format!("Listening on http://{address}. Paste this into another shell, in parts or as a whole:\n\n");
    if secrets.of_demo().next().is_some() {
        text.push_str("# Secrets for trying it out. They are public.\n");
    }
    for (name, secret) in secrets.of_demo() {
        let _ = writeln!(text, "{name}='{secret}'");
    }
    let _ = writeln!(text, "url='http://{address}'");
    text.push_str(COMMANDS);
    text.push('\n');
    text
}
