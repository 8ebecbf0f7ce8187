//! A multipart body (RFC 2046) as its parts, without the boundary, which clients draw anew for each attempt.
//!
//! Readers disagree about bodies that break the rules. Such a body is no multipart here, and is compared byte by byte: then no
//! reader can see two requests where this module sees one.

use http::{HeaderMap, header::CONTENT_TYPE};
use serde::{Serialize, Serializer};

/// The most parts, and the most headers of a part: what is parsed takes more memory than its bytes.
const MAX_PARTS: usize = 1024;
const MAX_HEADERS: usize = 32;

/// The longest boundary, which is that of the RFC.
const MAX_BOUNDARY_LEN: usize = 70;

#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Part<'a> {
    /// Names in lower case, in their order. `Content-Disposition` has the part's name and the file's.
    headers: Vec<(String, &'a str)>,
    #[serde(serialize_with = "bytes")]
    body: &'a [u8],
}

fn bytes<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_bytes(bytes)
}

/// The boundary of a multipart body; `None` if it is no multipart, or the header can be read in more than one way.
pub(super) fn boundary(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(CONTENT_TYPE).iter();
    let value = values.next()?.to_str().ok()?;
    let (essence, mut rest) = value.split_once(';')?;
    let kind = essence.trim().get(..10)?;
    if values.next().is_some() || !kind.eq_ignore_ascii_case("multipart/") {
        return None;
    }
    let mut boundary = None;
    loop {
        let (name, value) = rest.split_once('=')?;
        let is_of_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.*".contains(&byte);
        if !name.trim().bytes().all(is_of_name) {
            return None;
        }
        let (value, after) = match value.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').filter(|(value, _)| !value.contains('\\'))?,
            None => value.split_at(value.find(';').unwrap_or(value.len())),
        };
        let after = after.trim_start();
        if name.trim().eq_ignore_ascii_case("boundary") && boundary.replace(value.trim_end()).is_some() {
            return None;
        }
        if after.is_empty() {
            break;
        }
        rest = after.strip_prefix(';')?;
    }
    let is_of_boundary = |byte: u8| byte.is_ascii_alphanumeric() || b"'()+_,-./:=? ".contains(&byte);
    boundary.filter(|it| (1..=MAX_BOUNDARY_LEN).contains(&it.len()) && it.bytes().all(is_of_boundary))
}

/// Parses a body; `None` if it does not follow the rules to the byte.
pub(super) fn parse<'a>(boundary: &str, body: &'a [u8]) -> Option<Vec<Part<'a>>> {
    let delimiter = format!("\r\n--{boundary}");
    let mut rest = body.strip_prefix(delimiter.as_bytes().get(2..)?)?;
    let mut parts = Vec::new();
    loop {
        if let Some(after) = rest.strip_prefix(b"--") {
            return (after.is_empty() || after == b"\r\n").then_some(parts).filter(|parts| !parts.is_empty());
        }
        let (part, after) = split(rest.strip_prefix(b"\r\n")?, delimiter.as_bytes())?;
        rest = after;
        if parts.len() == MAX_PARTS {
            return None;
        }
        parts.push(self::part(part)?);
    }
}

fn part(part: &[u8]) -> Option<Part<'_>> {
    let mut headers = Vec::new();
    let mut rest = part;
    loop {
        let (line, after) = split(rest, b"\r\n")?;
        rest = after;
        if line.is_empty() {
            // A stable order: each name once, or the lines of a name in their order.
            headers.sort_by(|(one, _): &(String, _), (other, _)| one.cmp(other));
            return Some(Part { headers, body: rest });
        }
        let (name, value) = std::str::from_utf8(line).ok()?.split_once(':')?;
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        if headers.len() == MAX_HEADERS || name.is_empty() || !name.bytes().all(is_name) {
            return None;
        }
        headers.push((name.to_ascii_lowercase(), value.trim_matches([' ', '\t'])));
    }
}

/// The bytes before the first occurrence of a separator that begins with CR, and those after it.
fn split<'a>(bytes: &'a [u8], separator: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let mut from = 0;
    loop {
        let at = from + bytes.get(from..)?.iter().position(|byte| *byte == b'\r')?;
        let (before, rest) = bytes.split_at_checked(at)?;
        if let Some(after) = rest.strip_prefix(separator) {
            return Some((before, after));
        }
        from = at + 1;
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn boundary_in(value: &str) -> Option<String> {
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_str(value).unwrap())]);
        boundary(&headers).map(str::to_owned)
    }

    #[test]
    fn boundaries() {
        for (value, expected) in [
            ("multipart/form-data; boundary=abc", Some("abc")),
            ("Multipart/Form-Data;Boundary=\"a b=c\"", Some("a b=c")),
            ("multipart/related; type=\"text/xml; boundary=no\"; boundary=yes; start=x", Some("yes")),
            ("multipart/mixed; charset=utf-8 ; boundary=a ", Some("a")),
            ("multipart/form-data; boundary=a; boundary=b", None),
            ("multipart/form-data; a; boundary=a", None),
            (r#"multipart/form-data; a="\"; boundary=a"#, None),
            ("multipart/form-data; boundary=\"a", None),
            ("multipart/form-data; boundary=\"a\"b", None),
            ("multipart/form-data; boundary=", None),
            ("multipart/form-data; boundary", None),
            ("multipart/form-data; boundary=a*b", None),
            ("multipart/form-data", None),
            ("text/plain; boundary=abc", None),
            (&format!("multipart/form-data; boundary={}", "b".repeat(71)), None),
        ] {
            assert_eq!(boundary_in(value).as_deref(), expected, "{value}");
        }
        let value = HeaderValue::from_static("multipart/form-data; boundary=a");
        assert_eq!(boundary(&HeaderMap::from_iter([(CONTENT_TYPE, value.clone())])), Some("a"));
        let mut twice = HeaderMap::from_iter([(CONTENT_TYPE, value.clone())]);
        twice.append(CONTENT_TYPE, value);
        assert_eq!(boundary(&twice), None);
    }

    fn form(boundary: &str) -> String {
        format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"amount\"\r\n\r\n1\r\n--{boundary}\r\n\
             content-disposition:form-data; name=\"file\"; filename=\"a.txt\"\r\nContent-Type: text/plain\r\n\r\n\r\n--\r\n\
             --{boundary}--\r\n"
        )
    }

    #[test]
    fn parts_without_their_boundary() {
        let (one, other) = (form("abc"), form("x-y"));
        let parts = parse("abc", one.as_bytes()).unwrap();
        assert_eq!(parse("x-y", other.as_bytes()), Some(parse("abc", one.as_bytes()).unwrap()));
        assert_eq!(parts.iter().map(|part| part.body).collect::<Vec<_>>(), [&b"1"[..], b"\r\n--"]);
        assert_eq!(
            parts[1].headers,
            [
                ("content-disposition".to_owned(), "form-data; name=\"file\"; filename=\"a.txt\""),
                ("content-type".to_owned(), "text/plain"),
            ]
        );
        // Another value, name, file name or type, another order, a part less.
        for (from, to) in [
            ("\r\n1\r\n", "\r\n2\r\n"),
            ("amount", "total"),
            ("a.txt", "b.txt"),
            ("text/plain", "text/html"),
            ("Content-Type: text/plain", "X-Other: 1"),
        ] {
            assert!(one.contains(from));
            assert_ne!(parse("abc", one.replacen(from, to, 1).as_bytes()).unwrap(), parts, "{to}");
        }
    }

    #[test]
    fn what_readers_disagree_on_is_no_multipart() {
        let good = form("abc");
        assert!(parse("abc", good.as_bytes()).is_some());
        assert!(parse("abc", good.trim_end().as_bytes()).is_some(), "the last line break may be left out");
        for bad in [
            String::new(),
            "--abc--\r\n".to_owned(),
            format!("preamble\r\n{good}"),
            format!("{good}epilogue"),
            good.replace("\r\n", "\n"),
            good.replacen("--abc\r\n", "--abc \r\n", 1),
            good.replacen("\r\n1\r\n", "\r\n1\r\n--abcd\r\n", 1),
            good.replace("--abc--", "--abc"),
            good.replacen(": form-data", " form-data", 1),
            good.replacen("Content-Type:", " Content-Type:", 1),
            format!("--abc\r\n{}\r\n1\r\n--abc--", "a: b\r\n".repeat(MAX_HEADERS + 1)),
            "--abc\r\na: b\r\n\r\n1\r\n".repeat(MAX_PARTS + 1) + "--abc--",
        ] {
            assert_eq!(parse("abc", bad.as_bytes()), None, "{:?}", &bad[..bad.len().min(200)]);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed_or_not(body in "(--a|\r\n|\r|\n|--|a: b|: |.){0,30}", value in "multipart/[a-z]?; ?.{0,30}") {
            let _ = parse("a", body.as_bytes());
            if let Ok(value) = HeaderValue::from_str(&value) {
                let _ = boundary(&HeaderMap::from_iter([(CONTENT_TYPE, value)]));
            }
        }
    }
}
