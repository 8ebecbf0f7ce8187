//! A server behind the layer, and a client.

use std::{
    collections::VecDeque,
    convert::Infallible,
    future::Future,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use axum::{Router, body::Body, extract::Request, response::Response};
use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper_util::{
    client::legacy::{Client as Pool, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo},
    service::TowerToHyperService,
};
use idempotent_runtime::{
    Idempotency, Store,
    testing::{FaultyStore, Method as Step},
    tower::{BoxError, ChooseScope, IdempotencyLayer, IdempotencyLayerBuilder},
};
pub(crate) use idempotent_tests::backend::Backend;
use idempotent_tests::caller::calls;
use tokio::{
    net::TcpListener,
    sync::mpsc::{self, UnboundedReceiver, UnboundedSender},
};

/// A preset, which takes the service's name.
pub(crate) type Preset = fn(&'static str, Idempotency) -> ChooseScope;

/// Counts the runs of a handler.
#[derive(Clone, Debug, Default)]
pub(crate) struct Runs(Arc<AtomicU64>);

impl Runs {
    /// Counts one more run, and returns its number, from 1.
    pub(crate) fn begin(&self) -> u64 {
        self.0.fetch_add(1, Ordering::SeqCst) + 1
    }

    pub(crate) fn count(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

/// A server behind a layer, on a socket.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) runs: Runs,
    pub(crate) store: FaultyStore<Arc<dyn Store>>,
    pub(crate) layer: IdempotencyLayer,
}

impl Server {
    /// Starts a server with the preset `ietf`, without a scope.
    pub(crate) async fn start<F>(
        backend: &Backend,
        settings: impl FnOnce(IdempotencyLayerBuilder) -> IdempotencyLayerBuilder,
        handler: impl Fn(u64, Request) -> F + Clone + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Response> + Send + 'static,
    {
        Self::of(backend, IdempotencyLayer::ietf, |choose| settings(choose.unscoped()), handler, |router| router).await
    }

    /// Starts a server with this preset; `around` puts more around its router.
    pub(crate) async fn of<F>(
        backend: &Backend,
        preset: Preset,
        settings: impl FnOnce(ChooseScope) -> IdempotencyLayerBuilder,
        handler: impl Fn(u64, Request) -> F + Clone + Send + Sync + 'static,
        around: impl FnOnce(Router) -> Router,
    ) -> Self
    where
        F: Future<Output = Response> + Send + 'static,
    {
        let caller = backend.caller().await;
        let (idempotency, store) = (caller.idempotency, caller.store);
        let layer = settings(preset("shop", idempotency)).build().expect("settings that work");
        let runs = Runs::default();
        let counted = runs.clone();
        let router =
            Router::new().fallback(move |request: Request| handler(counted.begin(), request)).layer(layer.clone());
        let address = serve(around(router)).await;
        Self { address, runs, store, layer }
    }

    pub(crate) fn client(&self) -> Client {
        Client::of(self.address)
    }

    /// A client that speaks HTTP/2.
    pub(crate) fn client_of_http2(&self) -> Client {
        Client::http2(self.address)
    }

    /// Counts all calls of the store's methods, peeks included.
    pub(crate) fn store_calls(&self) -> usize {
        calls(&self.store) + self.store.calls(Step::Peek)
    }
}

/// Serves on a free port.
pub(crate) async fn serve(router: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

/// Serves a service that is no router on a free port, as hyper does.
pub(crate) async fn serve_hyper<S, R>(service: S) -> SocketAddr
where
    S: tower::Service<http::Request<hyper::body::Incoming>, Response = http::Response<R>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<BoxError>,
    R: HttpBody<Data = Bytes> + Send + 'static,
    R::Error: Into<BoxError>,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let service = TowerToHyperService::new(service.clone());
            let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
            tokio::spawn(async move { builder.serve_connection(TokioIo::new(socket), service).await });
        }
    });
    address
}

/// A response as a handler makes it: 201 with this body.
pub(crate) fn created(body: impl Into<Body>) -> Response {
    Response::builder().status(StatusCode::CREATED).body(body.into()).expect("a response")
}

/// The handler of most tests: says which run it is.
pub(crate) async fn charge(run: u64, _: Request) -> Response {
    let mut response = created(format!("charge {run}"));
    response.headers_mut().insert("location", format!("/charges/{run}").parse().expect("a value"));
    response
}

/// A server whose handler answers with what the test sends.
pub(crate) async fn streaming(
    backend: &Backend,
    settings: impl FnOnce(IdempotencyLayerBuilder) -> IdempotencyLayerBuilder,
) -> (Server, UnboundedSender<Result<Bytes, &'static str>>) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let receiver = Arc::new(Mutex::new(Some(receiver)));
    let respond = move |_, _| {
        let body = receiver.lock().unwrap().take().expect("one run");
        async move { Response::new(Body::new(Channel(body))) }
    };
    (Server::start(backend, settings, respond).await, sender)
}

/// A client with connections of its own.
#[derive(Clone)]
pub(crate) struct Client {
    pool: Pool<HttpConnector, Body>,
    address: SocketAddr,
}

/// A response that a client has received.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().expect("text"))
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }

    pub(crate) fn is_replay(&self) -> bool {
        self.header("idempotent-replayed") == Some("true")
    }

    /// Checks that it is a problem document with this code.
    pub(crate) fn assert_problem(&self, status: u16, code: &str) {
        assert_eq!((self.status.as_u16(), self.json()["code"].as_str()), (status, Some(code)), "{self:?}");
        assert_eq!(self.header("content-type"), Some("application/problem+json"));
        assert_eq!(self.json()["status"], status);
        assert_eq!(self.json()["type"], format!("urn:idempotent:problem:{code}"));
        assert!(self.json()["title"].is_string() && self.json()["detail"].is_string());
    }

    /// Checks that it is the response of this run of [`charge`].
    pub(crate) fn assert_charge(&self, run: u64, replayed: bool) {
        assert_eq!(self.status, StatusCode::CREATED, "{self:?}");
        assert_eq!(self.body, format!("charge {run}"));
        assert_eq!(self.header("location"), Some(format!("/charges/{run}").as_str()));
        assert_eq!(self.headers.contains_key("idempotent-replayed"), replayed);
        assert_eq!(self.is_replay(), replayed);
    }
}

impl Client {
    pub(crate) fn of(address: SocketAddr) -> Self {
        Self { pool: Pool::builder(TokioExecutor::new()).build_http(), address }
    }

    /// A client that speaks HTTP/2.
    pub(crate) fn http2(address: SocketAddr) -> Self {
        Self { pool: Pool::builder(TokioExecutor::new()).http2_only(true).build_http(), address }
    }

    /// A POST to `/charges`.
    pub(crate) async fn post(&self, key: &str, body: impl Into<Body>) -> Reply {
        self.send(Method::POST, "/charges", &[("idempotency-key", key.as_bytes())], body).await
    }

    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &[u8])],
        body: impl Into<Body>,
    ) -> Reply {
        let (status, headers, body) = self.begin(method, path, headers, body).await;
        let body = body.collect().await.expect("a whole body").to_bytes();
        Reply { status, headers, body }
    }

    /// The head of a response and its body, to be read.
    pub(crate) async fn begin(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &[u8])],
        body: impl Into<Body>,
    ) -> (StatusCode, HeaderMap, hyper::body::Incoming) {
        let mut request = Request::builder().method(method).uri(format!("http://{}{path}", self.address));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(body.into()).expect("a request");
        let (head, body) = self.pool.request(request).await.expect("a response").into_parts();
        (head.status, head.headers, body)
    }
}

/// A body that comes in these pieces, and without a length.
pub(crate) struct Pieces(pub(crate) VecDeque<Bytes>);

impl HttpBody for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.pop_front().map(|piece| Ok(Frame::data(piece))))
    }
}

/// A body that is sent through a channel, to its end or its error.
pub(crate) struct Channel(pub(crate) UnboundedReceiver<Result<Bytes, &'static str>>);

impl HttpBody for Channel {
    type Data = Bytes;
    type Error = &'static str;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, &'static str>>> {
        self.0.poll_recv(cx).map(|piece| piece.map(|piece| piece.map(Frame::data)))
    }
}

/// A [`Channel`] whose length is known.
pub(crate) struct Sized {
    pub(crate) body: Channel,
    pub(crate) left: u64,
}

impl HttpBody for Sized {
    type Data = Bytes;
    type Error = &'static str;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, &'static str>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            self.left -= frame.data_ref().map_or(0, |data| data.len() as u64);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
