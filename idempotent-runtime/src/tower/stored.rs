//! A response as it is kept: JSON that can be read with the store's own tools.

use std::sync::Arc;

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use serde::{Deserialize, Serialize, de};

use super::body::ResponseBody;
use crate::{
    codec,
    error::{Error, Undecodable},
    record::{Outcome, Unavailable},
};

/// What is kept of a response.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Stored {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    pub(super) trailers: Option<HeaderMap>,
    /// The id that the request had, where requests have one.
    pub(super) request_id: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct Written {
    status: u16,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    headers: Vec<(String, String)>,
    body: Content,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    trailers: Option<Vec<(String, String)>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    request_id: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Content {
    Text(String),
    Base64(String),
}

impl Stored {
    pub(super) fn encode(&self) -> Result<Outcome, Unavailable> {
        let written = Written {
            status: self.status.as_u16(),
            headers: write(&self.headers),
            body: match std::str::from_utf8(&self.body) {
                Ok(text) => Content::Text(text.to_owned()),
                Err(_) => Content::Base64(BASE64_STANDARD.encode(&self.body)),
            },
            trailers: self.trailers.as_ref().map(write),
            request_id: self.request_id.clone(),
        };
        match codec::encode(&written) {
            Ok(bytes) => Ok(Outcome::Ok(bytes.into())),
            Err(codec::NotFaithful) => Err(Unavailable::NotSerializable),
        }
    }

    pub(super) fn decode(bytes: &Bytes) -> Result<Self, Error> {
        let Written { status, headers, body, trailers, request_id } = codec::decode(bytes)?;
        Ok(Self {
            status: StatusCode::from_u16(status).map_err(|_| no_response())?,
            headers: read(headers)?,
            body: match body {
                Content::Text(text) => text.into(),
                Content::Base64(text) => BASE64_STANDARD.decode(text).map_err(|_| no_response())?.into(),
            },
            trailers: trailers.map(read).transpose()?,
            request_id,
        })
    }

    pub(super) fn into_response<B>(self) -> Response<ResponseBody<B>> {
        let mut response = Response::new(ResponseBody::whole(self.body, self.trailers));
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        response
    }
}

/// A value may have any bytes: each is the character with its number.
fn write(headers: &HeaderMap) -> Vec<(String, String)> {
    let text = |value: &HeaderValue| value.as_bytes().iter().map(|byte| char::from(*byte)).collect();
    headers.iter().map(|(name, value)| (name.as_str().to_owned(), text(value))).collect()
}

fn read(written: Vec<(String, String)>) -> Result<HeaderMap, Error> {
    let mut headers = HeaderMap::with_capacity(written.len());
    for (name, value) in written {
        let bytes: Result<Vec<u8>, _> = value.chars().map(u8::try_from).collect();
        let value = bytes.ok().and_then(|bytes| HeaderValue::from_bytes(&bytes).ok()).ok_or_else(no_response)?;
        headers.append(HeaderName::try_from(name).map_err(|_| no_response())?, value);
    }
    Ok(headers)
}

fn no_response() -> Error {
    let error = <serde_json::Error as de::Error>::custom("the record is not of a response");
    Undecodable::Result(Arc::new(error)).into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn round_trip(stored: &Stored) -> Stored {
        let Ok(Outcome::Ok(bytes)) = stored.encode() else { panic!("it is kept") };
        Stored::decode(&bytes).unwrap()
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
            let stored = Stored {
                status: StatusCode::from_u16(status).unwrap(),
                trailers: trailers.then(|| headers.clone()),
                headers,
                body: body.into(),
                request_id: None,
            };
            prop_assert_eq!(round_trip(&stored), stored);
        }

        #[test]
        fn any_record_is_read_or_refused(text in ".{0,80}") {
            let _ = Stored::decode(&Bytes::from(text));
        }
    }

    #[test]
    fn the_form_is_readable_and_stays() {
        let stored = Stored {
            status: StatusCode::CREATED,
            headers: HeaderMap::from_iter([(http::header::LOCATION, HeaderValue::from_static("/c/1"))]),
            body: Bytes::from_static(b"{\"id\":1}"),
            trailers: None,
            request_id: None,
        };
        let Ok(Outcome::Ok(bytes)) = stored.encode() else { panic!("it is kept") };
        assert_eq!(bytes, r#"{"status":201,"headers":[["location","/c/1"]],"body":{"text":"{\"id\":1}"}}"#);
        let binary = Stored { body: Bytes::from_static(&[0xff, 0]), headers: HeaderMap::new(), ..stored };
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
            let error = Stored::decode(&Bytes::from_static(text.as_bytes())).unwrap_err();
            assert!(matches!(error, Error::Undecodable(_)), "{text}");
        }
    }
}
