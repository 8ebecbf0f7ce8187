//! The recorded form of a request, for audits: JSON beside the response.

use bytes::Bytes;
use http::request::Parts;
use serde::Serialize;

use super::{
    fingerprint::sent_uri,
    stored_response::{Content, content},
};
use crate::{ArgumentsError, request::arguments};

/// Headers are left out: they have credentials.
#[derive(Serialize)]
struct Recorded<'a> {
    method: &'a str,
    path: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    query: Option<&'a str>,
    body: Body<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Body<'a> {
    Whole(Content<'a>),
    /// The body does not fit.
    LeftOut {
        omitted_bytes: usize,
    },
}

/// Writes a request as at most `max_len` bytes of JSON, without its body where that does not fit.
pub(super) fn json(parts: &Parts, body: &[u8], max_len: usize) -> Result<Bytes, ArgumentsError> {
    let uri = sent_uri(parts);
    let write = |body| {
        let recorded = Recorded { method: parts.method.as_str(), path: uri.path(), query: uri.query(), body };
        arguments::json(&recorded, max_len)
    };
    // No form of a body is shorter than the body. The check saves the work of writing it in vain.
    let whole = (body.len() <= max_len).then(|| write(Body::Whole(content(body))));
    match whole {
        Some(Ok(whole)) => Ok(whole),
        Some(Err(_)) | None => write(Body::LeftOut { omitted_bytes: body.len() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(uri: &str) -> Parts {
        let request = http::Request::post(uri).header("authorization", "canary").header("cookie", "canary");
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn method_path_query_and_body() {
        for (uri, body, expected) in [
            (
                "/c?a=1",
                &b"{\"n\": 1.0}"[..],
                r#"{"method":"POST","path":"/c","query":"a=1","body":{"json":{"n": 1.0}}}"#,
            ),
            ("http://host/c", b"a=1\0", r#"{"method":"POST","path":"/c","body":{"text":"a=1\u0000"}}"#),
            ("/", &[0xff, 0], r#"{"method":"POST","path":"/","body":{"base64":"/wA="}}"#),
        ] {
            let parts = parts(uri);
            assert_eq!(json(&parts, body, expected.len()).unwrap(), expected);
            let without = json(&parts, body, expected.len() - 1);
            let shown = without.map(|json| String::from_utf8(json.to_vec()).unwrap());
            assert!(shown.is_err() || shown.is_ok_and(|shown| shown.contains("\"omitted_bytes\":")));
        }
        let large = json(&parts("/"), &[b'x'; 1000], 64).unwrap();
        assert_eq!(large, r#"{"method":"POST","path":"/","body":{"omitted_bytes":1000}}"#);
        assert!(json(&parts("/"), b"", 10).is_err(), "not even the path fits");
    }
}
