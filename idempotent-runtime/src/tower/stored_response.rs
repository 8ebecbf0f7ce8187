//! The recorded form of a response: JSON that the store's own tools can show.

use std::{borrow::Cow, sync::Arc};

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use serde::{Deserialize, Serialize, de};
use serde_json::value::RawValue;

use super::body::ResponseBody;
use crate::{
    codec::compact,
    error::{Error, Undecodable},
    store::{NotKept, Outcome},
};

/// The part of a response that is kept.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct StoredResponse {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    pub(super) trailers: Option<HeaderMap>,
    /// The id of the request, with the presets for Stripe.
    pub(super) request_id: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct Written<'a> {
    status: u16,
    #[serde(borrow, default, skip_serializing_if = "Vec::is_empty")]
    headers: Vec<(JsonText<'a>, JsonText<'a>)>,
    body: Content<'a>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    trailers: Option<Vec<(JsonText<'a>, JsonText<'a>)>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    request_id: Option<JsonText<'a>>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Content<'a> {
    /// A body that is JSON, as it came, to the byte.
    #[serde(borrow)]
    Json(&'a RawValue),
    Text(JsonText<'a>),
    Base64(JsonText<'a>),
}

/// A JSON string. It is read without a copy, unless it has escapes.
#[derive(Serialize, Deserialize)]
pub(super) struct JsonText<'a>(#[serde(borrow)] Cow<'a, str>);

impl StoredResponse {
    pub(super) fn encode(&self) -> Result<Outcome, NotKept> {
        let written = Written {
            status: self.status.as_u16(),
            headers: write(&self.headers),
            body: content(&self.body),
            trailers: self.trailers.as_ref().map(write),
            request_id: self.request_id.as_deref().map(|id| JsonText(id.into())),
        };
        let mut bytes = Vec::with_capacity(self.body.len() + 256);
        match serde_json::to_writer(&mut bytes, &written) {
            // A boxed slice, without the spare capacity of the vector: the record may be kept in memory for long.
            Ok(()) => Ok(Outcome::Ok(bytes.into_boxed_slice().into())),
            Err(_) => Err(NotKept::NotSerializable),
        }
    }

    pub(super) fn decode(bytes: &Bytes) -> Result<Self, Error> {
        // A cache has made another form of the JSON.
        if let Some(json) = compact::to_json(bytes) {
            return Self::decode_json(&json);
        }
        Self::decode_json(bytes)
    }

    fn decode_json(bytes: &Bytes) -> Result<Self, Error> {
        // Looked at as a whole, text need not be looked at string by string.
        let written = match str::from_utf8(bytes) {
            Ok(text) => serde_json::from_str(text),
            Err(_) => serde_json::from_slice(bytes),
        };
        let Written { status, headers, body, trailers, request_id } = written.map_err(undecodable)?;
        Ok(Self {
            status: StatusCode::from_u16(status).map_err(|_| no_response())?,
            headers: read(bytes, headers)?,
            body: match body {
                Content::Json(json) => bytes.slice_ref(json.get().as_bytes()),
                Content::Text(text) => text.in_bytes_of(bytes),
                Content::Base64(text) => BASE64_STANDARD.decode(&*text.0).map_err(|_| no_response())?.into(),
            },
            trailers: trailers.map(|trailers| read(bytes, trailers)).transpose()?,
            request_id: request_id.map(|id| id.0.into_owned()),
        })
    }

    pub(super) fn into_response<B>(self) -> Response<ResponseBody<B>> {
        let mut response = Response::new(ResponseBody::whole(self.body, self.trailers));
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        response
    }
}

impl JsonText<'_> {
    /// The bytes of the string: a slice of the record, or a copy where the string had escapes.
    fn in_bytes_of(self, record: &Bytes) -> Bytes {
        match self.0 {
            Cow::Borrowed(text) => record.slice_ref(text.as_bytes()),
            Cow::Owned(text) => text.into(),
        }
    }
}

/// A body in the form that people can read best.
pub(super) fn content(body: &[u8]) -> Content<'_> {
    match serde_json::from_slice::<&RawValue>(body) {
        // White space around JSON would be lost, so such a body is text.
        Ok(json) if json.get().len() == body.len() => Content::Json(json),
        _ => match std::str::from_utf8(body) {
            Ok(text) => Content::Text(JsonText(text.into())),
            Err(_) => Content::Base64(JsonText(BASE64_STANDARD.encode(body).into())),
        },
    }
}

/// Header values may have any bytes. Each byte beyond ASCII is written as the character of its number.
fn write(headers: &HeaderMap) -> Vec<(JsonText<'_>, JsonText<'_>)> {
    let text = |value| match std::str::from_utf8(value) {
        Ok(text) if text.is_ascii() => text.into(),
        _ => value.iter().map(|byte| char::from(*byte)).collect::<String>().into(),
    };
    headers.iter().map(|(name, value)| (JsonText(name.as_str().into()), JsonText(text(value.as_bytes())))).collect()
}

fn read(record: &Bytes, written: Vec<(JsonText<'_>, JsonText<'_>)>) -> Result<HeaderMap, Error> {
    // Room for the two headers that the layer adds.
    let mut headers = HeaderMap::with_capacity(written.len() + 2);
    for (name, value) in written {
        let value = if value.0.is_ascii() {
            HeaderValue::from_maybe_shared(value.in_bytes_of(record)).ok()
        } else {
            let bytes: Result<Vec<u8>, _> = value.0.chars().map(u8::try_from).collect();
            bytes.ok().and_then(|bytes| HeaderValue::from_bytes(&bytes).ok())
        };
        let name = HeaderName::from_bytes(name.0.as_bytes()).map_err(|_| no_response())?;
        headers.append(name, value.ok_or_else(no_response)?);
    }
    Ok(headers)
}

fn no_response() -> Error {
    undecodable(de::Error::custom("the record does not hold a response"))
}

fn undecodable(error: serde_json::Error) -> Error {
    Undecodable::Result(Arc::new(error)).into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn round_trip(stored: &StoredResponse) -> StoredResponse {
        let Ok(Outcome::Ok(bytes)) = stored.encode() else { panic!("it is kept") };
        StoredResponse::decode(&bytes).unwrap()
    }

    proptest! {
        #[test]
        fn what_is_kept_comes_back(
            status in 100_u16..1000,
            values in proptest::collection::vec(proptest::collection::vec(0x20_u8..=0xff, 0..20), 0..4),
            body in proptest::collection::vec(any::<u8>(), 0..100),
            trailers: bool,
        ) {
            let values = values.iter().filter_map(|value| HeaderValue::from_bytes(value).ok());
            let headers: HeaderMap = values.map(|value| (http::header::ETAG, value)).collect();
            let stored = StoredResponse {
                status: StatusCode::from_u16(status).unwrap(),
                trailers: trailers.then(|| headers.clone()),
                headers,
                body: body.into(),
                request_id: None,
            };
            prop_assert_eq!(round_trip(&stored), stored);
        }

        /// JSON is kept as it stands, what only looks like it as text.
        #[test]
        fn a_body_comes_back_to_the_byte(body in "[ \\n]?[\\[{\"]?[0-9a-z\"\\\\/:,.\u{1}\u{e9}-]{0,12}[\\]}\"]?[ \\n]?") {
            let stored = StoredResponse {
                status: StatusCode::OK,
                headers: HeaderMap::new(),
                body: body.into(),
                trailers: None,
                request_id: Some("req_1".to_owned()),
            };
            prop_assert_eq!(round_trip(&stored), stored);
        }

        #[test]
        fn any_record_is_read_or_refused(text in ".{0,80}") {
            let _ = StoredResponse::decode(&Bytes::from(text));
        }
    }

    #[test]
    fn the_form_is_readable_and_stays() {
        let stored = StoredResponse {
            status: StatusCode::CREATED,
            headers: HeaderMap::from_iter([(http::header::LOCATION, HeaderValue::from_static("/c/1"))]),
            body: Bytes::from_static(b"{\"id\":1}"),
            trailers: None,
            request_id: None,
        };
        let Ok(Outcome::Ok(bytes)) = stored.encode() else { panic!("it is kept") };
        assert_eq!(bytes, r#"{"status":201,"headers":[["location","/c/1"]],"body":{"json":{"id":1}}}"#);
        #[cfg(feature = "local-cache")]
        {
            let cached = compact::of_json(&bytes).unwrap();
            assert_eq!(StoredResponse::decode(&cached).unwrap(), stored, "in whatever form it is cached");
        }
        let text = StoredResponse { body: Bytes::from_static(b" {}\r\n"), headers: HeaderMap::new(), ..stored };
        let Ok(Outcome::Ok(bytes)) = text.encode() else { panic!("it is kept") };
        assert_eq!(bytes, r#"{"status":201,"body":{"text":" {}\r\n"}}"#);
        let binary = StoredResponse { body: Bytes::from_static(&[0xff, 0]), ..text };
        let Ok(Outcome::Ok(bytes)) = binary.encode() else { panic!("it is kept") };
        assert_eq!(bytes, r#"{"status":201,"body":{"base64":"/wA="}}"#);
    }

    #[test]
    fn what_is_no_response_is_undecodable() {
        for text in [
            "{}",
            r#"{"status":1,"body":{"text":""}}"#,
            r#"{"status":200,"body":{"base64":"!"}}"#,
            r#"{"status":200,"headers":[["a b","x"]],"body":{"text":""}}"#,
            r#"{"status":200,"headers":[["a","\n"]],"body":{"text":""}}"#,
            r#"{"status":200,"headers":[["a","Ā"]],"body":{"text":""}}"#,
        ] {
            let error = StoredResponse::decode(&Bytes::from_static(text.as_bytes())).unwrap_err();
            assert!(matches!(error, Error::Undecodable(_)), "{text}");
        }
    }
}
