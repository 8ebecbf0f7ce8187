//! The service: takes a request to its response.

use std::{
    future::{Future, poll_fn, ready},
    mem,
    ops::ControlFlow,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, request::Parts};
use http_body::Body;
use http_body_util::LengthLimitError;
use tokio::sync::oneshot;
use tower_service::Service;

use super::{
    IdempotencyKey,
    body::{BoxError, Gathered, RequestBody, ResponseBody},
    config::{Config, KeyScope},
    grpc,
    handler_run::{self, HandlerRun, Head},
    key::{self as header_key, NoKey},
    layer::LayerState,
    recorded_request,
    replies::{Dialect, Refusal},
    running::HandlerGuard,
    stored_response::StoredResponse,
};
use crate::{
    Error,
    engine::{self, Prepared, Unanswered},
    request::{arguments::Request as CallRequest, key},
    store::BoxFuture,
};

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// A service behind an [`IdempotencyLayer`](super::IdempotencyLayer).
#[derive(Clone, Debug)]
pub struct IdempotencyService<S> {
    pub(super) inner: S,
    pub(super) state: Arc<LayerState>,
}

/// The future of a response.
pub type ResponseFuture<R, E> = Pin<Box<dyn Future<Output = Result<Response<ResponseBody<R>>, E>> + Send>>;

impl<S, B, R> Service<Request<B>> for IdempotencyService<S>
where
    S: Service<Request<RequestBody<B>>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send + 'static,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
    R: Body<Data = Bytes> + Send + 'static,
    R::Error: Into<BoxError>,
{
    type Response = Response<ResponseBody<R>>;
    type Error = S::Error;
    type Future = ResponseFuture<R, S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let not_ready = self.inner.clone();
        let mut inner = mem::replace(&mut self.inner, not_ready);
        let (parts, body) = request.into_parts();
        match keyed(&self.state.config, &parts) {
            Ok(Some(keyed)) => Box::pin(keyed.answer(Arc::clone(&self.state), inner, parts, body)),
            Ok(None) => {
                #[cfg(feature = "axum")]
                let parts = super::extract::pass(&self.state.config, parts);
                let response = inner.call(Request::from_parts(parts, RequestBody::through(body)));
                Box::pin(async move { Ok(response.await?.map(ResponseBody::own)) })
            }
            Err(refusal) => {
                let Config { dialect, header, .. } = &*self.state.config;
                Box::pin(ready(Ok(dialect.refuse(&refusal, header, grpc::content_type(&parts.headers)))))
            }
        }
    }
}

/// A request with a key that counts.
struct KeyedRequest {
    key: String,
    scope: Option<String>,
    /// The header with the key as it was sent, where responses repeat it.
    sent: Option<HeaderValue>,
    /// The content type of a request of gRPC.
    grpc: Option<HeaderValue>,
}

/// Reads key and scope of a request; `None` lets the request pass. Asks nothing of the store.
fn keyed(config: &Config, parts: &Parts) -> Result<Option<KeyedRequest>, Refusal> {
    if !config.methods.contains(&parts.method) {
        return Ok(None);
    }
    let key = match header_key::key(&parts.headers, &config.header, config.format) {
        Ok(key) => key,
        Err(NoKey::Missing) if config.required => return Err(Refusal::KeyMissing),
        Err(NoKey::Missing) => return Ok(None),
        Err(NoKey::Malformed(why)) => return Err(Refusal::KeyMalformed(why)),
    };
    if config.valid.as_ref().is_some_and(|is_valid| !is_valid(&key)) {
        return Err(Refusal::KeyMalformed("it does not have the form that this service asks for"));
    }
    let scope = match &config.scope {
        KeyScope::Unscoped => None,
        KeyScope::Of(of) => Some(of(parts).ok_or(Refusal::NoScope)?),
    };
    let sent = config.dialect.echo(&parts.headers, &config.header);
    Ok(Some(KeyedRequest { key, scope, sent, grpc: grpc::content_type(&parts.headers).cloned() }))
}

impl KeyedRequest {
    /// Reads the body, and answers the request: with a response at hand, or through the store and the handler.
    // A plain function: the future of an `async fn` would hold the request twice, as its argument and where it is moved to.
    fn answer<S, B, R>(
        self,
        state: Arc<LayerState>,
        inner: S,
        parts: Parts,
        body: B,
    ) -> impl Future<Output = Result<Response<ResponseBody<R>>, S::Error>> + Send
    where
        S: Service<Request<RequestBody<B>>, Response = Response<R>> + Send + 'static,
        S::Future: Send,
        S::Error: Send + 'static,
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
        R: Body<Data = Bytes> + Send + 'static,
        R::Error: Into<BoxError>,
    {
        let Self { key, scope, sent, grpc } = self;
        async move {
            let config = &*state.config;
            let answered = match read(body, config.max_request_body).await {
                Ok((data, trailers)) => match at_hand(config, &key, scope.as_deref(), &parts, &data) {
                    ControlFlow::Break(answer) => answer,
                    ControlFlow::Continue(call) => {
                        let body = RequestBody::read(data, trailers);
                        ask(call, &state, inner, IdempotencyKey(key), parts, body).await
                    }
                },
                Err(refusal) => Err(refusal),
            };
            let mut response =
                answered.unwrap_or_else(|refusal| config.dialect.refuse(&refusal, &config.header, grpc.as_ref()));
            Dialect::mark(response.headers_mut(), state.ttl.clone(), sent.map(|sent| (&config.header, sent)));
            Ok(response)
        }
    }
}

/// Prepares the call; `Break` is the answer, if it is at hand without the store.
fn at_hand<R>(
    config: &Config,
    key: &str,
    scope: Option<&str>,
    parts: &Parts,
    data: &Bytes,
) -> ControlFlow<Result<Response<ResponseBody<R>>, Refusal>, Unanswered<StoredResponse>> {
    let shared = &config.idempotency.shared;
    let prepared = config.fingerprint.of(parts, data).map_err(Error::from).and_then(|fingerprint| {
        let key = key::record_key(&config.operation.name, shared.limits.max_key_len, |writer| match scope {
            Some(scope) => writer.value(&(scope, key)),
            None => writer.value(key),
        })?;
        let arguments = shared.limits.recorded_len().map(|max_len| recorded_request::json(parts, data, max_len));
        let request = CallRequest { fingerprint, arguments: arguments.transpose()? };
        let request_id = parts.headers.get(X_REQUEST_ID).and_then(|id| id.to_str().ok());
        Ok(Prepared { shared, key, request, request_id })
    });
    let call = engine::Call::new(config.operation.clone(), prepared);
    call.at_hand(StoredResponse::decode)
        .map_break(|answer| answer.map(|stored| replayed(config, stored)).map_err(Refusal::Engine))
}

/// Claims the key, runs the handler, and answers with the handler's response or with the recorded one.
// The future is boxed here, so that a replay, which does not come here, allocates nothing for it.
fn ask<S, B, R>(
    call: Unanswered<StoredResponse>,
    state: &Arc<LayerState>,
    inner: S,
    key: IdempotencyKey,
    mut parts: Parts,
    body: RequestBody<B>,
) -> BoxFuture<'static, Result<Response<ResponseBody<R>>, Refusal>>
where
    S: Service<Request<RequestBody<B>>, Response = Response<R>> + Send + 'static,
    S::Future: Send,
    S::Error: Send + 'static,
    B: Send + 'static,
    R: Body<Data = Bytes> + Send + 'static,
    R::Error: Into<BoxError>,
{
    parts.extensions.insert(key);
    let config = Arc::clone(&state.config);
    let (head, mut from_handler) = oneshot::channel();
    let run = HandlerRun { config: Arc::clone(&config), head, guard: HandlerGuard::new(&state.handlers) };
    let run = run.run(inner, Request::from_parts(parts, body));
    Box::pin(async move {
        match first(pin!(call.run(run, handler_run::recorded)), &mut from_handler).await {
            (None | Some(Ok(None)), Some(response)) => Ok(response),
            (None | Some(Ok(None)), None) => Err(Refusal::HandlerFailed),
            (Some(Ok(Some(stored))), _) => Ok(replayed(&config, stored)),
            (Some(Err(error)), _) => Err(Refusal::Engine(error)),
        }
    })
}

fn replayed<R>(config: &Config, mut stored: StoredResponse) -> Response<ResponseBody<R>> {
    let (original, status) = (stored.request_id.take(), stored.status);
    let mut response = stored.into_response();
    config.dialect.replayed(response.headers_mut(), original, status);
    response
}

/// The engine's answer: a recorded response, or `None` if the handler's own run is the answer.
type EngineAnswer = Result<Option<StoredResponse>, Error>;

/// Waits for the engine's answer, or for a response that is streamed, whichever comes first. Returns both, as far as they are
/// there: without the engine's answer, the handler still makes the body of the response.
async fn first<R>(
    mut answer: Pin<&mut impl Future<Output = EngineAnswer>>,
    head: &mut oneshot::Receiver<Head<R>>,
) -> (Option<EngineAnswer>, Option<Response<ResponseBody<R>>>) {
    let (mut waiting, mut own) = (true, None);
    poll_fn(|cx| {
        if let Poll::Ready(answer) = answer.as_mut().poll(cx) {
            // The handler has already sent its response, if it has one. `try_recv`, not `poll`: tokio's coop budget could make
            // `poll` return `Pending`.
            let head = own.take().or_else(|| head.try_recv().ok());
            return Poll::Ready((Some(answer), head.map(|head: Head<R>| head.response)));
        }
        if waiting && let Poll::Ready(head) = Pin::new(&mut *head).poll(cx) {
            waiting = false;
            match head {
                Ok(Head { response, streamed: true }) => return Poll::Ready((None, Some(response))),
                head => own = head.ok(),
            }
        }
        Poll::Pending
    })
    .await
}

/// Reads a body to its end, up to `max_len` bytes.
async fn read<B>(body: B, max_len: usize) -> Result<(Bytes, Option<HeaderMap>), Refusal>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    if body.size_hint().lower() > max_len as u64 {
        return Err(Refusal::BodyTooLarge);
    }
    let mut body = pin!(body);
    let mut gathered = Gathered::new(max_len);
    while let Some(frame) = poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
        let frame = frame.map_err(|error| match error.into() {
            // A limit in a layer further out cut it off.
            error if error.is::<LengthLimitError>() => Refusal::BodyTooLarge,
            _ => Refusal::BodyUnreadable,
        })?;
        if !gathered.take(&frame) {
            return Err(Refusal::BodyTooLarge);
        }
    }
    Ok(gathered.into_parts())
}

#[cfg(test)]
mod tests {
    use http_body_util::{Full, Limited};
    use tokio::task::coop;

    use super::*;

    /// With `poll` in place of `try_recv`, the response was lost, and the client got a 500.
    #[tokio::test]
    async fn a_task_without_coop_budget_gets_its_response() {
        let (sender, mut head) = oneshot::channel();
        let response = Response::new(ResponseBody::own(Full::new(Bytes::new())));
        assert!(sender.send(Head { response, streamed: false }).is_ok());
        while coop::has_budget_remaining() {
            coop::consume_budget().await;
        }
        let (answer, response) = first(pin!(ready(Ok(None))), &mut head).await;
        assert!(answer.is_some() && response.is_some());
    }

    #[tokio::test]
    async fn a_body_is_read_up_to_its_limit() {
        let body = || Full::new(Bytes::from_static(b"four"));
        assert!(matches!(read(body(), 4).await, Ok((data, None)) if data == "four"));
        assert!(matches!(read(body(), 3).await, Err(Refusal::BodyTooLarge)));
        // Limited further out.
        assert!(matches!(read(Limited::new(body(), 3), 4).await, Err(Refusal::BodyTooLarge)));
    }
}
