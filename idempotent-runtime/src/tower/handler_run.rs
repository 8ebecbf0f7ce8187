//! The run of a handler under a claim: its response is handed on and copied, and what is kept of it is the run's end.

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
use http::{Request, Response};
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
    body::{self, BoxError, Frames, Gathered, Message, RequestBody, ResponseBody, Then},
    config::Config,
    layer::Running,
    stored_response::Stored,
};
use crate::{
    engine::RunEnd,
    store::{BoxFuture, NotKept, Outcome},
};

/// The response as the client gets it.
pub(super) struct Head<R> {
    pub(super) response: Response<ResponseBody<R>>,
    /// Whether its body is still being made: the client is not made to wait for that.
    pub(super) streamed: bool,
}

/// A run, and where the request that it is for gets its response.
pub(super) struct Run<R> {
    pub(super) config: Arc<Config>,
    pub(super) head: oneshot::Sender<Head<R>>,
    pub(super) running: Running,
}

/// What lasts until the run is on record.
pub(super) type UntilRecorded<R> = (Option<Ending<R>>, Running);

/// The end of a copied body. The client gets it when the response is on record; if it is dropped, the response breaks off.
pub(super) struct Ending<R> {
    client: UnboundedSender<Message<R>>,
    last: Option<Frame<Bytes>>,
}

/// Sends the end of a copied body.
pub(super) fn recorded<R>((ending, _running): UntilRecorded<R>) {
    if let Some(Ending { client, last }) = ending {
        // The client may have gone.
        let _ = client.send(Message::Last(last));
    }
}

/// How long a handler may run on when its client is gone.
struct Limit {
    run_on: Duration,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Limit {
    /// Awaits a future; `None` when the time is up, which runs once the client is `gone`.
    // By reference: what an async function takes by value has its place twice.
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

/// Marks a response of which nothing is kept, whatever its status: the request was not begun. The key is free for another
/// request, and for this one again.
///
/// A handler puts it into the response's extensions, for a request that it refuses before it has done anything. The same
/// goes for an [`Error`](crate::Error) of an annotated function that it calls: kept, `InFlight` would be all that the key
/// is answered with for a day. (With the feature `axum`, an `Error` that becomes a response has it.)
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

impl<R> Run<R>
where
    R: Body<Data = Bytes> + Send + 'static,
    R::Error: Into<BoxError>,
{
    /// Has the handler answer, hands its response on, and says what is kept of it.
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
        let Self { config, mut head, running } = self;
        Box::pin(async move {
            let mut kept = false;
            let ended = caught(pin!(async {
                let mut limit = Limit { run_on: config.run_on, timer: None };
                // Gone, their destructors have run, at the end of this block.
                let called = {
                    let mut handler = handler;
                    limit.within(poll_fn(|cx| head.poll_closed(cx)), pin!(handler.call(request))).await
                };
                let Some(Ok(response)) = called else { return (RunEnd::Abandon, None) };
                let waker = poll_fn(|cx| Poll::Ready(cx.waker().clone())).await;
                match answered(&config, head, limit, response, &waker, &mut kept) {
                    ControlFlow::Break(encoded) => (encoded, None),
                    ControlFlow::Continue(streamed) => streamed.await,
                }
            }))
            .await;
            let (encoded, ending) = ended.unwrap_or_else(|_| {
                // A handler that has answered is not run again because its body panics.
                let encoded =
                    if kept { RunEnd::Keep(Outcome::NotKept(NotKept::NotSerializable)) } else { RunEnd::Abandon };
                (encoded, None)
            });
            (encoded, (ending, running))
        })
    }
}

/// What is still to be copied.
type Streamed<R> = BoxFuture<'static, (RunEnd, Option<Ending<R>>)>;

/// Hands a handler's response on, and says what is kept of it. What of its body is there at once, as a rule all of it,
/// the client gets when it is on record; what takes longer, it gets as it comes. `kept` tells, before anything is asked of
/// the body, whether anything is to be kept.
// Not an `async fn`, and what takes longer is boxed: every run's future would be larger.
fn answered<R>(
    config: &Config,
    head: oneshot::Sender<Head<R>>,
    limit: Limit,
    mut response: Response<R>,
    waker: &Waker,
    kept: &mut bool,
) -> ControlFlow<RunEnd, Streamed<R>>
where
    R: Body<Data = Bytes> + Send + 'static,
    R::Error: Into<BoxError>,
{
    let hand_on = |response, streamed| {
        // The client may have gone.
        let _ = head.send(Head { response, streamed });
    };
    let status = response.status();
    *kept = response.extensions().get::<NotBegun>().is_none() && config.keeps(status);
    let request_id = config.dialect.name(response.headers_mut(), *kept, status);
    if !*kept {
        hand_on(response.map(ResponseBody::own), false);
        return ControlFlow::Break(RunEnd::Release);
    }
    let headers = config.kept_headers(response.headers());
    let encode = move |copied: Copied| {
        let outcome = copied.and_then(|copied| {
            let (body, trailers) = copied.into_parts();
            Stored { status, headers, body, trailers, request_id }.encode()
        });
        RunEnd::Keep(outcome.unwrap_or_else(Outcome::NotKept))
    };
    let (parts, body) = response.into_parts();
    let mut body = Box::pin(body);
    let mut copy = Gathered::new(config.max_response_body);
    let mut at_hand = Frames::default();
    let (then, copied) = loop {
        if body.size_hint().lower() > copy.room() {
            break (Then::Own(body), Err(NotKept::TooLarge));
        }
        match poll_frame(&mut body, &mut Context::from_waker(waker)) {
            Poll::Pending => {
                let (client, messages) = mpsc::unbounded_channel();
                let then = Then::Copied(body::Copied { messages, left: body.size_hint() });
                hand_on(Response::from_parts(parts, ResponseBody::new(at_hand, then)), true);
                return ControlFlow::Continue(Box::pin(async move {
                    let (copied, ending) = stream(body, copy, client, limit).await;
                    (encode(copied), ending)
                }));
            }
            Poll::Ready(None) => break (Then::End, Ok(copy)),
            Poll::Ready(Some(Err(error))) => break (Then::Failed(error), Err(NotKept::NotSerializable)),
            Poll::Ready(Some(Ok(frame))) => {
                let fits = copy.take(&frame);
                at_hand.push(frame);
                if !fits {
                    break (Then::Own(body), Err(NotKept::TooLarge));
                }
            }
        }
    };
    hand_on(Response::from_parts(parts, ResponseBody::new(at_hand, then)), false);
    ControlFlow::Break(encode(copied))
}

type Copied = Result<Gathered, NotKept>;

/// Copies the rest of a body on its way to the client.
async fn stream<R>(
    mut body: Pin<Box<R>>,
    mut copy: Gathered,
    client: UnboundedSender<Message<R>>,
    mut limit: Limit,
) -> (Copied, Option<Ending<R>>)
where
    R: Body<Data = Bytes>,
    R::Error: Into<BoxError>,
{
    // Whatever is sent to the client: it may have gone.
    let last = loop {
        let polled = limit.within(client.closed(), pin!(poll_fn(|cx| poll_frame(&mut body, cx)))).await;
        let Some(frame) = polled else { return (Err(NotKept::NotSerializable), None) };
        match frame {
            None => break None,
            Some(Err(error)) => {
                let _ = client.send(Message::Failed(error));
                return (Err(NotKept::NotSerializable), None);
            }
            Some(Ok(frame)) if !copy.take(&frame) => {
                let _ = client.send(Message::Frame(frame));
                let _ = client.send(Message::Own(body));
                return (Err(NotKept::TooLarge), None);
            }
            Some(Ok(frame)) if body.is_end_stream() => break Some(frame),
            Some(Ok(frame)) => {
                let _ = client.send(Message::Frame(frame));
            }
        }
    };
    // Its destructor may panic, and a client that has the end would not be told.
    drop(body);
    (Ok(copy), Some(Ending { client, last }))
}

/// Polls a body. A panic of it is its failure: the response has begun, and nobody else has it.
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

/// Awaits a future, and catches its panic.
async fn caught<F: Future>(mut future: Pin<&mut F>) -> std::thread::Result<F::Output> {
    poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
        Ok(polled) => polled.map(Ok),
        Err(panic) => Poll::Ready(Err(panic)),
    })
    .await
}
