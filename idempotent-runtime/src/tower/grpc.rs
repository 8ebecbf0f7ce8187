//! gRPC: HTTP says 200, and `grpc-status` says how a call ended. It is in the headers (a response of trailers only), in the
//! trailers or, with gRPC-Web, in the last frame of the body.

use std::borrow::Cow;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header::CONTENT_TYPE};

pub(super) const STATUS: HeaderName = HeaderName::from_static("grpc-status");
pub(super) const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
/// Tells a client when to retry: <https://github.com/grpc/proposal/blob/master/A6-client-retries.md>
pub(super) const RETRY_PUSHBACK: HeaderName = HeaderName::from_static("grpc-retry-pushback-ms");

/// The statuses that the layer tells apart: <https://grpc.io/docs/guides/status-codes/>
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Code {
    Cancelled = 1,
    Unknown = 2,
    InvalidArgument = 3,
    DeadlineExceeded = 4,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    FailedPrecondition = 9,
    Aborted = 10,
    Internal = 13,
    Unavailable = 14,
}

/// The statuses of calls that a repeat runs again. `CANCELLED` is among them because servers end calls with it that were cut
/// short; tonic does at a time limit.
const AGAIN: [Code; 7] = [
    Code::Cancelled,
    Code::Unknown,
    Code::DeadlineExceeded,
    Code::ResourceExhausted,
    Code::Aborted,
    Code::Internal,
    Code::Unavailable,
];

/// The end of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// With a status that is an answer to the call.
    Answered,
    /// With a status after which a repeat runs the call again.
    Again,
    /// Without a status: the call broke off.
    WithoutStatus,
}

impl Ended {
    /// The end that a `grpc-status` says.
    fn with(status: &[u8]) -> Self {
        match std::str::from_utf8(status).map(str::parse::<u8>) {
            Ok(Ok(status)) if status <= 16 && AGAIN.iter().all(|code| *code as u8 != status) => Self::Answered,
            // Clients read what is no status as `UNKNOWN`.
            _ => Self::Again,
        }
    }

    /// The end that headers or trailers say; `None` if they say none.
    pub(super) fn said_in(headers: &HeaderMap) -> Option<Self> {
        headers.get_all(STATUS).iter().map(|status| Self::with(status.as_bytes())).reduce(Self::and)
    }

    /// The end that a whole response says.
    pub(super) fn of(headers: &HeaderMap, body: &Bytes, trailers: Option<&HeaderMap>) -> Self {
        let in_body = || content_type(headers).and_then(|of_type| web_end(of_type, body));
        [Self::said_in(headers), trailers.and_then(Self::said_in), in_body()]
            .into_iter()
            .flatten()
            .reduce(Self::and)
            .unwrap_or(Self::WithoutStatus)
    }

    /// What two statuses of one call say: clients differ in which of them they believe, so both must be an answer.
    fn and(self, other: Self) -> Self {
        if self == Self::Answered { other } else { self }
    }
}

/// The content type of a request or response, if it is of gRPC or gRPC-Web.
pub(super) fn content_type(headers: &HeaderMap) -> Option<&HeaderValue> {
    headers.get(CONTENT_TYPE).filter(|value| starts_with(value, "application/grpc"))
}

/// True if the content type is of gRPC-Web, which has no trailers.
pub(super) fn is_web(content_type: &HeaderValue) -> bool {
    starts_with(content_type, "application/grpc-web")
}

fn starts_with(value: &HeaderValue, prefix: &str) -> bool {
    value.as_bytes().get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix.as_bytes()))
}

/// The end in the frames of trailers of a gRPC-Web body, of which there should be one, the last: <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-WEB.md>
fn web_end(content_type: &HeaderValue, body: &[u8]) -> Option<Ended> {
    const TRAILERS: u8 = 0x80;
    if !is_web(content_type) {
        return None;
    }
    let mut rest: Cow<'_, [u8]> = body.into();
    if starts_with(content_type, "application/grpc-web-text") {
        // Each piece that was sent is encoded by itself, so padding may stand anywhere.
        let decoded: Result<Vec<_>, _> = body.chunks(4).map(|four| BASE64_STANDARD.decode(four)).collect();
        rest = decoded.ok()?.concat().into();
    }
    let mut rest = &*rest;
    let frames = std::iter::from_fn(|| {
        let (head, after) = rest.split_first_chunk::<5>()?;
        let [flags, len @ ..] = *head;
        let (frame, after) = after.split_at_checked(u32::from_be_bytes(len).try_into().ok()?)?;
        rest = after;
        Some((flags, frame))
    });
    frames
        .filter(|(flags, _)| flags & TRAILERS != 0)
        .flat_map(|(_, frame)| frame.split(|byte| *byte == b'\n'))
        .filter_map(|line| std::str::from_utf8(line).ok()?.split_once(':'))
        .filter(|(name, _)| name.trim().eq_ignore_ascii_case(STATUS.as_str()))
        .map(|(_, status)| Ended::with(status.trim().as_bytes()))
        .reduce(Ended::and)
}

/// Text as a `grpc-message`: percent-encoded, but for printable ASCII.
pub(super) fn message(text: &str) -> Option<HeaderValue> {
    use std::fmt::Write as _;
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'%' => encoded.push_str("%25"),
            b' '..=b'~' => encoded.push(byte.into()),
            _ => write!(encoded, "%{byte:02X}").ok()?,
        }
    }
    HeaderValue::try_from(encoded).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_that_are_answers() {
        let answers: Vec<_> =
            (0..20).filter(|status: &u8| Ended::with(status.to_string().as_bytes()) == Ended::Answered).collect();
        assert_eq!(answers, [0, 3, 5, 6, 7, 9, 11, 12, 15, 16]);
        for odd in ["", "-1", "ok", "0x0", "256", "\u{fc}"] {
            assert_eq!(Ended::with(odd.as_bytes()), Ended::Again, "{odd}");
        }
    }

    fn headers(content_type: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(content_type))])
    }

    #[test]
    fn content_types() {
        for (value, is_grpc) in [
            ("application/grpc", true),
            ("Application/gRPC+proto; charset=x", true),
            ("application/grpc-web-text", true),
            ("application/json", false),
            ("application", false),
        ] {
            assert_eq!(content_type(&headers(value)).is_some(), is_grpc, "{value}");
        }
        assert_eq!(content_type(&HeaderMap::new()), None);
    }

    /// A message, and the trailers as the last frame.
    fn web(trailers: &str) -> Vec<u8> {
        let len = u8::try_from(trailers.len()).unwrap();
        [&[0, 0, 0, 0, 2, 7, 7, 0x80, 0, 0, 0, len], trailers.as_bytes()].concat()
    }

    #[test]
    fn the_status_of_grpc_web_is_in_the_body() {
        let ended = |content_type, body: &[u8]| Ended::of(&headers(content_type), &Bytes::copy_from_slice(body), None);
        for (trailers, expected) in [
            ("grpc-status:0\r\ngrpc-message:fine\r\n", Ended::Answered),
            ("x: y\r\nGrpc-Status: 14\r\n", Ended::Again),
            ("grpc-status:0\r\ngrpc-status:14\r\n", Ended::Again),
            ("x: y\r\n", Ended::WithoutStatus),
        ] {
            let body = web(trailers);
            assert_eq!(ended("application/grpc-web+proto", &body), expected);
            // In pieces, each encoded by itself.
            let text = [BASE64_STANDARD.encode(&body[..7]), BASE64_STANDARD.encode(&body[7..])].concat();
            assert_eq!(ended("application/grpc-web-text+proto", text.as_bytes()), expected);
            assert_eq!(ended("application/grpc", &body), Ended::WithoutStatus);
        }
        // All frames of trailers count, also before a message.
        for (first, second, expected) in
            [("0", "0", Ended::Answered), ("14", "0", Ended::Again), ("0", "14", Ended::Again)]
        {
            let body = [web(&format!("grpc-status:{first}\r\n")), web(&format!("grpc-status:{second}\r\n"))].concat();
            assert_eq!(ended("application/grpc-web", &body), expected, "{first}, and then {second}");
        }
        let whole = web("grpc-status:0\r\n");
        for len in 0..whole.len() {
            assert_eq!(ended("application/grpc-web", &whole[..len]), Ended::WithoutStatus);
        }
        assert_eq!(ended("application/grpc-web-text", b"****"), Ended::WithoutStatus);
    }

    #[test]
    fn of_two_statuses_both_must_be_an_answer() {
        let statuses = |statuses: &[&'static str]| -> HeaderMap {
            statuses.iter().map(|status| (STATUS, HeaderValue::from_static(status))).collect()
        };
        let none = HeaderMap::new();
        let ended = |headers: &HeaderMap, trailers: &HeaderMap| Ended::of(headers, &Bytes::new(), Some(trailers));
        for (first, second, expected) in [
            ("0", "5", Ended::Answered),
            ("0", "14", Ended::Again),
            ("14", "0", Ended::Again),
            ("14", "13", Ended::Again),
            ("0", "", Ended::Again),
        ] {
            let both = statuses(&[first, second]);
            assert_eq!(ended(&both, &none), expected, "{first} {second} in the headers");
            assert_eq!(ended(&none, &both), expected, "{first} {second} in the trailers");
            assert_eq!(ended(&statuses(&[first]), &statuses(&[second])), expected, "{first}, and then {second}");
        }
        assert_eq!(ended(&none, &none), Ended::WithoutStatus);
    }

    #[test]
    fn messages_are_percent_encoded() {
        assert_eq!(message("100% für \n").unwrap(), "100%25 f%C3%BCr %0A");
    }
}
