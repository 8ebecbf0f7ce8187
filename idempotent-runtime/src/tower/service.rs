//! The service: from a request to its response.

use std::{
    future::{Future, poll_fn, ready},
    mem,
    ops::ControlFlow,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, request::Parts};
use http_body::Body;
use http_body_util::LengthLimitError;
use tokio::sync::oneshot;
use tower_service::Service;

use super::{
    IdempotencyKey,
    body::{BoxError, Gathered, RequestBody, ResponseBody},
    config::{Config, Scope},
    handler_run::{self, Head, Run},
    key::{self as header_key, NoKey},
    layer::{Running, Shared},
    replies::{Dialect, Refusal},
    stored_response::Stored,
};
use crate::{
    Error,
    engine::{self, Prepared, Unanswered},
    request::{arguments::Request as CallRequest, key},
    store::BoxFuture,
};

/// A service behind an [`IdempotencyLayer`](super::IdempotencyLayer).
#[derive(Clone, Debug)]
pub struct IdempotencyService<S> {
    pub(super) inner: S,
    pub(super) shared: Arc<Shared>,
}

/// What the service answers with.
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
        match keyed(&self.shared.config, &parts) {
            Ok(Some(keyed)) => Box::pin(keyed.answer(Arc::clone(&self.shared), inner, parts, body)),
            Ok(None) => {
                #[cfg(feature = "axum")]
                let parts = super::extract::pass(&self.shared.config, parts);
                let response = inner.call(Request::from_parts(parts, RequestBody::through(body)));
                Box::pin(async move { Ok(response.await?.map(ResponseBody::own)) })
            }
            Err(refusal) => {
                let Config { dialect, header, .. } = &*self.shared.config;
                Box::pin(ready(Ok(dialect.refuse(&refusal, header))))
            }
        }
    }
}

/// A request whose key counts.
struct Keyed {
    key: String,
    scope: Option<String>,
    /// The key as it was sent, where it is sent back.
    sent: Option<HeaderValue>,
}

/// The key of a request, if it counts. Nothing is asked of the store here.
fn keyed(config: &Config, parts: &Parts) -> Result<Option<Keyed>, Refusal> {
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
        return Err(Refusal::KeyMalformed("it is not of the form that keys have here"));
    }
    let scope = match &config.scope {
        Scope::Unscoped => None,
        Scope::Of(of) => Some(of(parts).ok_or(Refusal::NoScope)?),
    };
    Ok(Some(Keyed { key, scope, sent: config.dialect.echo(&parts.headers, &config.header) }))
}

impl Keyed {
    /// What is at hand, or else what the store and the handler come to.
    // Not an `async fn`, whose future would hold the request twice: as its argument and as what it was moved to.
    fn answer<S, B, R>(
        self,
        shared: Arc<Shared>,
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
        let Self { key, scope, sent } = self;
        async move {
            let config = &*shared.config;
            let answered = match read(body, config.max_request_body).await {
                Ok((data, trailers)) => match at_hand(config, &key, scope.as_deref(), &parts, &data) {
                    ControlFlow::Break(answer) => answer,
                    ControlFlow::Continue(call) => {
                        let body = RequestBody::read(data, trailers);
                        ask(call, &shared, inner, IdempotencyKey(key), parts, body).await
                    }
                },
                Err(refusal) => Err(refusal),
            };
            let mut response = answered.unwrap_or_else(|refusal| config.dialect.refuse(&refusal, &config.header));
            Dialect::mark(response.headers_mut(), shared.ttl.clone(), sent.map(|sent| (&config.header, sent)));
            Ok(response)
        }
    }
}

/// The answer, if the store is not to be asked.
fn at_hand<R>(
    config: &Config,
    key: &str,
    scope: Option<&str>,
    parts: &Parts,
    data: &Bytes,
) -> ControlFlow<Result<Response<ResponseBody<R>>, Refusal>, Unanswered<Stored>> {
    let shared = &config.idempotency.shared;
    let prepared = config.fingerprint.of(parts, data).map_err(Error::from).and_then(|fingerprint| {
        let key = key::record_key(&config.operation.name, shared.limits.max_key_len, |writer| match scope {
            Some(scope) => writer.value(&(scope, key)),
            None => writer.value(key),
        })?;
        Ok(Prepared { shared, key, request: CallRequest { fingerprint, arguments: None } })
    });
    let call = engine::Call::new(config.operation.clone(), prepared);
    call.at_hand(Stored::decode)
        .map_break(|answer| answer.map(|stored| replayed(config, stored)).map_err(Refusal::Engine))
}

/// Claims the key, has the handler run, and answers with what there is first.
// Boxed: a replay does without.
fn ask<S, B, R>(
    call: Unanswered<Stored>,
    shared: &Arc<Shared>,
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
    let config = Arc::clone(&shared.config);
    let (head, mut from_handler) = oneshot::channel();
    let run = Run { config: Arc::clone(&config), head, running: Running::new(shared) };
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

fn replayed<R>(config: &Config, mut stored: Stored) -> Response<ResponseBody<R>> {
    let (original, status) = (stored.request_id.take(), stored.status);
    let mut response = stored.into_response();
    config.dialect.replayed(response.headers_mut(), original, status);
    response
}

type Answer = Result<Option<Stored>, Error>;

/// What there is to answer a client with: the engine's answer, and the handler's response if it has run. Without the
/// former, the response's body is still being made.
async fn first<R>(
    mut answer: Pin<&mut impl Future<Output = Answer>>,
    head: &mut oneshot::Receiver<Head<R>>,
) -> (Option<Answer>, Option<Response<ResponseBody<R>>>) {
    let (mut waiting, mut own) = (true, None);
    poll_fn(|cx| {
        if let Poll::Ready(answer) = answer.as_mut().poll(cx) {
            // What there is of a head is there by now. Polled, it would be kept back from a task that has done much.
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

/// Reads a body to its end, if it is not too long.
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
            // Of a limit further out.
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

    /// The response was lost, and its client told that there is none.
    #[tokio::test]
    async fn a_task_that_has_used_its_budget_up_gets_its_response() {
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
