//! A service of tonic without a schema, and its clients.

use std::{
    convert::Infallible,
    future::Future,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Buf, BufMut, Bytes};
use http::uri::PathAndQuery;
use idempotent_runtime::{
    Store,
    testing::{FaultyStore, Gate},
    tower::{IdempotencyLayer, IdempotencyLayerBuilder},
};
use tokio::{net::TcpListener, sync::mpsc};
use tonic::{
    Code, Request, Response, Status, Streaming,
    body::Body,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    codegen::tokio_stream::wrappers::UnboundedReceiverStream,
    metadata::MetadataMap,
    server::NamedService,
    transport::{Channel, Endpoint, server::TcpIncoming},
};

use crate::support::{Backend, Channel as RawBody, Runs};

pub(super) const PAY: &str = "/bank.Bank/Pay";

/// Messages are bytes, without a schema.
#[derive(Clone, Copy, Default)]
pub(super) struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, message: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(message);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}

/// The server's treatment of a call.
pub(super) enum Answer {
    Unary(Result<Response<Bytes>, Status>),
    /// Messages, and what ends them. They come at once, or each after a while.
    Stream(Vec<Result<Bytes, Status>>, Pace),
    /// The HTTP body itself, without trailers.
    Body(Vec<Result<Bytes, &'static str>>, Pace),
    /// Refused before anything was done.
    NotBegun,
    Wait(Gate),
    Panic,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Pace {
    AtOnce,
    Slow,
}

pub(super) const PACES: [Pace; 2] = [Pace::AtOnce, Pace::Slow];

/// Sends these through a channel.
fn sent<T: Send + 'static>(items: Vec<T>, pace: Pace) -> mpsc::UnboundedReceiver<T> {
    let (sender, receiver) = mpsc::unbounded_channel();
    match pace {
        Pace::AtOnce => items.into_iter().for_each(|item| drop(sender.send(item))),
        Pace::Slow => drop(tokio::spawn(async move {
            for item in items {
                tokio::time::sleep(Duration::from_millis(5)).await;
                let _ = sender.send(item);
            }
        })),
    }
    receiver
}

/// The service of the tests, whose runs are counted.
#[derive(Clone)]
struct Bank {
    runs: Runs,
    answer: Arc<dyn Fn(u64) -> Answer + Send + Sync>,
}

impl NamedService for Bank {
    const NAME: &'static str = "bank.Bank";
}

impl tower::Service<http::Request<Body>> for Bank {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<http::Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let answer = (self.answer)(self.runs.begin());
        Box::pin(async move {
            let mut grpc = tonic::server::Grpc::new(Raw);
            Ok(match answer {
                Answer::Unary(response) => {
                    let mut response = Some(response);
                    let unary = move |_: Request<Bytes>| std::future::ready(response.take().expect("one call"));
                    grpc.unary(tower::service_fn(unary), request).await
                }
                Answer::Stream(items, pace) => {
                    let mut stream = Some(UnboundedReceiverStream::new(sent(items, pace)));
                    let streaming = move |_: Request<Bytes>| {
                        std::future::ready(Ok::<_, Status>(Response::new(stream.take().expect("one call"))))
                    };
                    grpc.server_streaming(tower::service_fn(streaming), request).await
                }
                Answer::Body(pieces, pace) => {
                    let response = http::Response::builder().header("content-type", "application/grpc");
                    response.body(Body::new(RawBody(sent(pieces, pace)))).expect("a response")
                }
                Answer::NotBegun => {
                    let mut response: http::Response<Body> = Status::invalid_argument("no amount").into_http();
                    response.extensions_mut().insert(idempotent_runtime::tower::NotBegun);
                    response
                }
                Answer::Wait(gate) => {
                    gate.pass().await;
                    let done =
                        |_: Request<Bytes>| std::future::ready(Ok::<_, Status>(Response::new(Bytes::from("done"))));
                    grpc.unary(tower::service_fn(done), request).await
                }
                Answer::Panic => panic!("as the test wants it"),
            })
        })
    }
}

#[derive(Clone)]
pub(super) struct Server {
    pub(super) address: SocketAddr,
    pub(super) channel: Channel,
    pub(super) runs: Runs,
    pub(super) store: FaultyStore<Arc<dyn Store>>,
}

/// The answer that a client got.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) messages: Vec<Bytes>,
    pub(super) metadata: MetadataMap,
    pub(super) end: Result<(), Status>,
}

impl Told {
    pub(super) fn is_replay(&self) -> bool {
        self.metadata.get("idempotent-replayed").is_some()
    }

    pub(super) fn code(&self) -> Code {
        self.end.as_ref().map_or_else(Status::code, |()| Code::Ok)
    }

    pub(super) fn message(&self) -> &str {
        self.end.as_ref().map_or_else(Status::message, |()| "")
    }
}

impl Server {
    pub(super) async fn start(
        backend: &Backend,
        settings: impl FnOnce(IdempotencyLayerBuilder) -> IdempotencyLayerBuilder,
        answer: impl Fn(u64) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let caller = backend.caller().await;
        let scope = |parts: &http::request::Parts| (!parts.headers.contains_key("stranger")).then(|| "acme".to_owned());
        let layer = settings(IdempotencyLayer::ietf("bank", caller.idempotency).scope(scope)).build().unwrap();
        let runs = Runs::default();
        let bank = Bank { runs: runs.clone(), answer: Arc::new(answer) };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tonic::transport::Server::builder().layer(layer).add_service(bank);
        tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
        let channel = Endpoint::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
        Self { address, channel, runs, store: caller.store }
    }

    pub(super) async fn begin(
        &self,
        metadata: &[(&'static str, &str)],
        body: &'static str,
    ) -> Result<Response<Streaming<Bytes>>, Status> {
        let mut grpc = tonic::client::Grpc::new(self.channel.clone());
        grpc.ready().await.unwrap();
        let mut request = Request::new(Bytes::from(body));
        for (name, value) in metadata {
            request.metadata_mut().insert(*name, value.parse().unwrap());
        }
        grpc.server_streaming(request, PathAndQuery::from_static(PAY), Raw).await
    }

    pub(super) async fn send(&self, metadata: &[(&'static str, &str)], body: &'static str) -> Told {
        let (metadata, mut stream) = match self.begin(metadata, body).await {
            Err(status) => return Told { messages: Vec::new(), metadata: status.metadata().clone(), end: Err(status) },
            Ok(response) => {
                let (metadata, stream, _) = response.into_parts();
                (metadata, stream)
            }
        };
        let mut messages = Vec::new();
        let end = loop {
            match stream.message().await {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => break Ok(()),
                Err(status) => break Err(status),
            }
        };
        Told { messages, metadata, end }
    }

    pub(super) async fn pay(&self, key: &str) -> Told {
        self.send(&[("idempotency-key", key)], "amount=1").await
    }

    /// Pays until the key is no longer in flight.
    pub(super) async fn settled(&self, key: &str) -> Told {
        loop {
            let told = self.pay(key).await;
            if !told.message().starts_with("in-flight") {
                return told;
            }
        }
    }
}
