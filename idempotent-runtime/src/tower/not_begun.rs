//! The mark on responses of which nothing is kept.

/// Marks a response of which nothing is kept, whatever its status: the handler refused the request before it did anything. The
/// key is free again, for this request and for another one.
///
/// A handler puts the mark into the response's extensions. It does so for requests that it refuses, and for an
/// [`Error`](crate::Error) of an annotated function that it calls: if an `InFlight` were kept, every repeat would get it until
/// the `ttl` has passed. With the feature `axum`, an `Error` that becomes a response has the mark, and the extractor `OrNotBegun` marks
/// the rejection of another extractor.
///
/// ```
/// use http::Response;
/// use idempotent_runtime::tower::NotBegun;
///
/// let mut refused = Response::builder().status(400).body("the amount is missing").unwrap();
/// refused.extensions_mut().insert(NotBegun);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotBegun;
