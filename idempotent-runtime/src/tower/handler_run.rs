//! Runs a handler under a claim: passes its response on to the client, copies it, and decides how the run ends.

use std::{
    future::{Future, poll_fn},
    ops::ControlFlow,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, Request, Response, StatusCode, header::SET_COOKIE};
use http_body::{Body, Frame};
use tokio::{
    sync::{
        mpsc::{self, UnboundedSender},
        oneshot,
    },
    time::Sleep,
};
use tower_service::Service;

use super::{
    body::{BoxError, CopiedBody, Frames, Gathered, Message, OwnBody, RequestBody, ResponseBody, Then},
    builder::is_of_one_response,
    config::{Config, chosen},
    grpc::{self, Ended},
    not_begun::NotBegun,
    running::HandlerGuard,
    stored_response::StoredResponse,
};
use crate::{
    engine::RunEnd,
    store::{BoxFuture, NotKept, Outcome},
};

/// The response as the client gets it.
pub(super) struct Head<R> {
    pub(super) response: Response<ResponseBody<R>>,
    /// True if the handler still makes the body. The client gets the response without waiting for the record.
    pub(super) streamed: bool,
}

/// One run of a handler.
pub(super) struct HandlerRun<R> {
    pub(super) config: Arc<Config>,
    /// Takes the response to the service, which waits for it.
    pub(super) head: oneshot::Sender<Head<R>>,
    pub(super) guard: HandlerGuard,
}

/// Kept until the run is on record.
pub(super) type UntilRecorded<R> = (Option<WithheldEnd<R>>, HandlerGuard);

/// The end of a copied body, withheld from the client until the response is on record. If it is dropped, the client's response
/// breaks off: the client must not believe a response that a repeat would not get.
pub(super) struct WithheldEnd<R> {
    client: UnboundedSender<Message<R>>,
    last: Option<Frame<Bytes>>,
}

/// Sends the withheld end of a body: the response is on record.
pub(super) fn recorded<R>((end, _guard): UntilRecorded<R>) {
    if let Some(WithheldEnd { client, last }) = end {
        // Fails if the client has gone.
        let _ = client.send(Message::Last(last));
    }
}

/// The time that a handler has left once its client is gone.
struct RunOnLimit {
    run_on: Duration,
    /// Started when the client goes.
    timer: Option<Pin<Box<Sleep>>>,
}

impl RunOnLimit {
    /// Awaits a future. `None` if the time is up before it is ready; the time starts when `gone` is ready.
    // The future comes by reference: an async function reserves space twice for what it takes by value.
    async fn within<F: Future>(
        &mut self,
        gone: impl Future<Output = ()>,
        mut future: Pin<&mut F>,
    ) -> Option<F::Output> {
        let mut gone = pin!(gone);
        poll_fn(|cx| match future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending => self.poll(gone.as_mut(), cx).map(|()| None),
        })
        .await
    }

    fn poll(&mut self, gone: Pin<&mut impl Future<Output = ()>>, cx: &mut Context<'_>) -> Poll<()> {
        let timer = match &mut self.timer {
            Some(timer) => timer,
            timer => {
                ready!(gone.poll(cx));
                timer.insert(Box::pin(tokio::time::sleep(self.run_on)))
            }
        };
        timer.as_mut().poll(cx)
    }
}

impl<R> HandlerRun<R>
where
    R: Body<Data = Bytes> + Send + 'static,
    R::Error: Into<BoxError>,
{
    /// Calls the handler, passes its response on, and returns how the run ends.
    pub(super) fn run<S, B>(
        self,
        handler: S,
        request: Request<RequestBody<B>>,
    ) -> BoxFuture<'static, (RunEnd, UntilRecorded<R>)>
    where
        S: Service<Request<RequestBody<B>>, Response = Response<R>> + Send + 'static,
        S::Future: Send,
        S::Error: Send,
        B: Send + 'static,
    {
        let Self { config, mut head, guard } = self;
        Box::pin(async move {
            let mut kept = false;
            let ended = caught(pin!(async {
                let mut limit = RunOnLimit { run_on: config.run_on, timer: None };
                // This block drops the service and its future, so that their destructors run while the key is claimed.
                let called = {
                    let mut handler = handler;
                    limit.within(poll_fn(|cx| head.poll_closed(cx)), pin!(handler.call(request))).await
                };
                let Some(Ok(response)) = called else { return (RunEnd::Abandon, None) };
                let waker = poll_fn(|cx| Poll::Ready(cx.waker().clone())).await;
                match pass_on(&config, head, limit, response, &waker, &mut kept) {
                    ControlFlow::Break(run_end) => (run_end, None),
                    ControlFlow::Continue(rest) => rest.await,
                }
            }))
            .await;
            let (run_end, withheld) = ended.unwrap_or_else(|_| {
                // Once the handler has returned a response that is to be kept, a panic comes from the response's body (its
                // length, its frames, its destructor). The handler has done its work and must not run again.
                let run_end =
                    if kept { RunEnd::Keep(Outcome::NotKept(NotKept::NotSerializable)) } else { RunEnd::Abandon };
                (run_end, None)
            });
            (run_end, (withheld, guard))
        })
    }
}

/// Copies the rest of a body that takes its time.
type RestOfBody<R> = BoxFuture<'static, (RunEnd, Option<WithheldEnd<R>>)>;

/// The part of a response that is known before its body.
struct KeptHead {
    status: StatusCode,
    headers: HeaderMap,
    request_id: Option<String>,
    is_grpc: bool,
    /// True for a call of gRPC whose status comes at its end, and then decides whether the response is kept.
    awaits_grpc_status: bool,
}

impl KeptHead {
    /// Reads the head of a response; `None` if it is not to be kept.
    fn read<R>(config: &Config, response: &mut Response<R>) -> Option<Self> {
        let status = response.status();
        let headers = response.headers();
        // By the response, and not by the request: a client must not choose the rule.
        let is_grpc = grpc::content_type(headers).is_some() || headers.contains_key(grpc::STATUS);
        let grpc_end = Ended::said_in(headers);
        let is_kept =
            response.extensions().get::<NotBegun>().is_none() && config.keeps(status) && grpc_end != Some(Ended::Again);
        let headers = match (is_kept, is_grpc) {
            (false, _) => HeaderMap::new(),
            (true, true) => chosen(headers, is_of_every_response),
            (true, false) => config.kept_headers(status, headers),
        };
        let request_id = config.dialect.name(response.headers_mut(), is_kept, status);
        let awaits_grpc_status = is_grpc && grpc_end.is_none();
        is_kept.then_some(Self { status, headers, request_id, is_grpc, awaits_grpc_status })
    }

    /// Decides how a run ends whose response has ended.
    fn run_end(self, copied: CopyResult) -> RunEnd {
        let outcome = match copied {
            Ok(copied) => {
                let (body, trailers) = copied.into_parts();
                if self.is_grpc
                    && let Some(end) = not_answered(Ended::of(&self.headers, &body, trailers.as_ref()))
                {
                    return end;
                }
                let trailers = trailers.map(|trailers| chosen(&trailers, is_of_every_response));
                let Self { status, headers, request_id, .. } = self;
                StoredResponse { status, headers, body, trailers, request_id }.encode()
            }
            Err(NotCopied::TooLarge(_)) => Err(NotKept::TooLarge),
            Err(NotCopied::Failed) if self.awaits_grpc_status => return RunEnd::Abandon,
            Err(NotCopied::Failed) => Err(NotKept::NotSerializable),
        };
        RunEnd::Keep(outcome.unwrap_or_else(Outcome::NotKept))
    }

    /// True if the end of a body that is too large to keep decides how its run ends.
    fn follows_large_bodies(&self) -> bool {
        self.awaits_grpc_status && !grpc::content_type(&self.headers).is_some_and(grpc::is_web)
    }
}

/// True for headers and trailers that say the same in a repeat.
fn is_of_every_response(name: &HeaderName) -> bool {
    !is_of_one_response(name) && *name != SET_COOKIE
}

/// Gives the end of a run whose call of gRPC has no answer; `None` if it has one.
const fn not_answered(ended: Ended) -> Option<RunEnd> {
    match ended {
        Ended::Answered => None,
        Ended::Again => Some(RunEnd::Release),
        // The call broke off, as a handler does that panics.
        Ended::WithoutStatus => Some(RunEnd::Abandon),
    }
}

/// Waits for the trailers of a call of gRPC whose response is too large to keep, and decides how its run ends.
async fn end_of_large(trailers: oneshot::Receiver<HeaderMap>) -> RunEnd {
    let trailers = trailers.await.unwrap_or_default();
    let ended = Ended::said_in(&trailers).unwrap_or(Ended::WithoutStatus);
    not_answered(ended).unwrap_or(RunEnd::Keep(Outcome::NotKept(NotKept::TooLarge)))
}

/// Passes a response on to the client, and returns how the run ends.
///
/// `Break`: the whole body was ready at once, which is the rule; the client gets the response when it is on record.
/// `Continue`: the body takes its time; the client gets it as it comes, while the returned future copies it.
///
/// `kept` is set before the body is polled, so that after a panic of the body the caller knows whether the response was to be kept.
// A plain function with a boxed rest: as an `async fn`, it would make the future of every run larger.
fn pass_on<R>(
    config: &Config,
    to_client: oneshot::Sender<Head<R>>,
    limit: RunOnLimit,
    mut response: Response<R>,
    waker: &Waker,
    kept: &mut bool,
) -> ControlFlow<RunEnd, RestOfBody<R>>
where
    R: Body<Data = Bytes> + Send + 'static,
    R::Error: Into<BoxError>,
{
    let send = |response, streamed| {
        // Fails if the client has gone.
        let _ = to_client.send(Head { response, streamed });
    };
    let Some(head) = KeptHead::read(config, &mut response) else {
        send(response.map(ResponseBody::own), false);
        return ControlFlow::Break(RunEnd::Release);
    };
    *kept = !head.awaits_grpc_status;
    let (parts, body) = response.into_parts();
    let mut body = Box::pin(body);
    let mut copy = Gathered::new(config.max_response_body);
    let mut at_hand = Frames::default();
    let (then, copied) = loop {
        if body.size_hint().lower() > copy.room() {
            let (own, trailers) = OwnBody::with_trailers(body);
            break (Then::Own(own), Err(NotCopied::TooLarge(trailers)));
        }
        match poll_frame(&mut body, &mut Context::from_waker(waker)) {
            Poll::Pending => {
                let (client, messages) = mpsc::unbounded_channel();
                let then = Then::Copied(CopiedBody { messages, left: body.size_hint() });
                send(Response::from_parts(parts, ResponseBody::new(at_hand, then)), true);
                return ControlFlow::Continue(Box::pin(async move {
                    match copy_rest(body, copy, client, limit).await {
                        (Err(NotCopied::TooLarge(trailers)), withheld) if head.follows_large_bodies() => {
                            (end_of_large(trailers).await, withheld)
                        }
                        (copied, withheld) => (head.run_end(copied), withheld),
                    }
                }));
            }
            Poll::Ready(None) => break (Then::End, Ok(copy)),
            Poll::Ready(Some(Err(error))) => break (Then::Failed(error), Err(NotCopied::Failed)),
            Poll::Ready(Some(Ok(frame))) => {
                let fits = copy.take(&frame);
                at_hand.push(frame);
                if !fits {
                    let (own, trailers) = OwnBody::with_trailers(body);
                    break (Then::Own(own), Err(NotCopied::TooLarge(trailers)));
                }
            }
        }
    };
    match copied {
        Err(NotCopied::TooLarge(trailers)) if head.follows_large_bodies() => {
            send(Response::from_parts(parts, ResponseBody::new(at_hand, then)), true);
            ControlFlow::Continue(Box::pin(async move { (end_of_large(trailers).await, None) }))
        }
        copied => {
            send(Response::from_parts(parts, ResponseBody::new(at_hand, then)), false);
            ControlFlow::Break(head.run_end(copied))
        }
    }
}

/// The reason why there is no copy of a body.
enum NotCopied {
    /// It failed, or was stopped.
    Failed,
    /// It is too large. The client reads its rest, whose trailers come here.
    TooLarge(oneshot::Receiver<HeaderMap>),
}

type CopyResult = Result<Gathered, NotCopied>;

/// Copies the rest of a body on its way to the client.
async fn copy_rest<R>(
    mut body: Pin<Box<R>>,
    mut copy: Gathered,
    client: UnboundedSender<Message<R>>,
    mut limit: RunOnLimit,
) -> (CopyResult, Option<WithheldEnd<R>>)
where
    R: Body<Data = Bytes>,
    R::Error: Into<BoxError>,
{
    // Each `send` fails if the client has gone. The copy goes on without it.
    let last = loop {
        let polled = limit.within(client.closed(), pin!(poll_fn(|cx| poll_frame(&mut body, cx)))).await;
        let Some(frame) = polled else { return (Err(NotCopied::Failed), None) };
        match frame {
            None => break None,
            Some(Err(error)) => {
                let _ = client.send(Message::Failed(error));
                return (Err(NotCopied::Failed), None);
            }
            Some(Ok(frame)) if !copy.take(&frame) => {
                let _ = client.send(Message::Frame(frame));
                let (own, trailers) = OwnBody::with_trailers(body);
                let _ = client.send(Message::Own(own));
                return (Err(NotCopied::TooLarge(trailers)), None);
            }
            Some(Ok(frame)) if body.is_end_stream() => break Some(frame),
            Some(Ok(frame)) => {
                let _ = client.send(Message::Frame(frame));
            }
        }
    };
    // Drop the body before its end is sent: its destructor may panic, and the client would have a whole response of a run
    // that is recorded without one.
    drop(body);
    (Ok(copy), Some(WithheldEnd { client, last }))
}

/// Polls a body, and turns its panic into its error: the client already has the head of the response.
fn poll_frame<R>(body: &mut Pin<Box<R>>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>>
where
    R: Body<Data = Bytes>,
    R::Error: Into<BoxError>,
{
    match catch_unwind(AssertUnwindSafe(|| body.as_mut().poll_frame(cx))) {
        Ok(polled) => polled.map_err(Into::into),
        Err(_) => Poll::Ready(Some(Err("the handler panicked".into()))),
    }
}

/// Awaits a future and catches its panic.
async fn caught<F: Future>(mut future: Pin<&mut F>) -> std::thread::Result<F::Output> {
    poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
        Ok(polled) => polled.map(Ok),
        Err(panic) => Poll::Ready(Err(panic)),
    })
    .await
}
