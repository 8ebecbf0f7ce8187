//! Reads the headers of each sender.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use http::HeaderMap;

use super::{VerifyError, header};

/// HMAC-SHA-256.
pub(super) type Signature = [u8; 32];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scheme {
    Standard,
    Stripe,
    GitHub,
    Shopify,
}

/// The content of the headers, none of it verified yet.
pub(super) struct Unverified<'h> {
    /// The event id; `None` if the body has it.
    pub(super) id: Option<&'h str>,
    /// Seconds since 1970.
    pub(super) timestamp: Option<u64>,
    /// The text that is signed in front of the body.
    pub(super) preamble: String,
    /// The signatures of a known form. Others are ignored, so that a sender can add a new form beside the known one.
    pub(super) signatures: Vec<Signature>,
}

impl Scheme {
    /// True if the time of the attempt is signed.
    pub(super) const fn has_timestamp(self) -> bool {
        matches!(self, Self::Standard | Self::Stripe)
    }

    pub(super) fn read(self, headers: &HeaderMap) -> Result<Unverified<'_>, VerifyError> {
        match self {
            Self::Standard => standard(headers),
            Self::Stripe => stripe(headers),
            Self::GitHub => github(headers),
            Self::Shopify => shopify(headers),
        }
    }
}

/// The names of id, time and signatures.
type Family = [&'static str; 3];

const STANDARD: Family = ["webhook-id", "webhook-timestamp", "webhook-signature"];
const SVIX: Family = ["svix-id", "svix-timestamp", "svix-signature"];

/// The family that the sender uses. Both at once are refused: a proxy may have checked the one that we would not read.
fn family(headers: &HeaderMap) -> Result<Family, VerifyError> {
    let given = |family: Family| family.into_iter().find(|name| headers.contains_key(*name));
    match (given(STANDARD), given(SVIX)) {
        (Some(_), Some(svix)) => Err(VerifyError::MalformedHeader(svix)),
        (None, Some(_)) => Ok(SVIX),
        (_, None) => Ok(STANDARD),
    }
}

/// `v1,BASE64 v1,BASE64 v1a,…`
fn standard(headers: &HeaderMap) -> Result<Unverified<'_>, VerifyError> {
    let [id_name, time_name, signatures_name] = family(headers)?;
    // The signed text is `ID.TIME.BODY`. With a dot in the id, a signed `a.1.2.{}` could be read as the id `a.1` or as the id `a`.
    let id = Some(header::id(headers, id_name)?).filter(|id| !id.contains('.'));
    let id = id.ok_or(VerifyError::MalformedHeader(id_name))?;
    let seconds = header::only(headers, time_name)?;
    let timestamp = header::seconds(seconds).ok_or(VerifyError::MalformedHeader(time_name))?;
    let signatures = header::only(headers, signatures_name)?.split(' ');
    Ok(Unverified {
        id: Some(id),
        timestamp: Some(timestamp),
        preamble: format!("{id}.{seconds}."),
        signatures: signatures.filter_map(|signature| from_base64(signature.strip_prefix("v1,")?)).collect(),
    })
}

/// `t=SECONDS,v1=HEX,v1=HEX,v0=…`
fn stripe(headers: &HeaderMap) -> Result<Unverified<'_>, VerifyError> {
    const NAME: &str = "stripe-signature";
    let malformed = VerifyError::MalformedHeader(NAME);
    let (mut time, mut signatures) = (None, Vec::new());
    for item in header::only(headers, NAME)?.split(',') {
        match item.split_once('=').ok_or(malformed)? {
            // Of two times, only one is signed.
            ("t", seconds) if time.replace(seconds).is_some() => return Err(malformed),
            ("v1", signature) => signatures.extend(from_hex(signature)),
            _ => {}
        }
    }
    let seconds = time.ok_or(malformed)?;
    let timestamp = header::seconds(seconds).ok_or(malformed)?;
    Ok(Unverified { id: None, timestamp: Some(timestamp), preamble: format!("{seconds}."), signatures })
}

/// `sha256=HEX`
fn github(headers: &HeaderMap) -> Result<Unverified<'_>, VerifyError> {
    const NAME: &str = "x-hub-signature-256";
    let signature = header::only(headers, NAME)?.strip_prefix("sha256=").and_then(from_hex);
    Ok(Unverified {
        id: Some(header::id(headers, "x-github-delivery")?),
        timestamp: None,
        preamble: String::new(),
        signatures: vec![signature.ok_or(VerifyError::MalformedHeader(NAME))?],
    })
}

/// `BASE64`
fn shopify(headers: &HeaderMap) -> Result<Unverified<'_>, VerifyError> {
    const NAME: &str = "x-shopify-hmac-sha256";
    let signature = from_base64(header::only(headers, NAME)?);
    Ok(Unverified {
        id: Some(header::id(headers, "x-shopify-webhook-id")?),
        timestamp: None,
        preamble: String::new(),
        signatures: vec![signature.ok_or(VerifyError::MalformedHeader(NAME))?],
    })
}

fn from_hex(text: &str) -> Option<Signature> {
    let mut signature = Signature::default();
    hex::decode_to_slice(text, &mut signature).ok()?;
    Some(signature)
}

fn from_base64(text: &str) -> Option<Signature> {
    BASE64_STANDARD.decode(text).ok()?.try_into().ok()
}
