//! The run of a handler under a claim: its response is handed on and copied, and what is kept of it is the run's end.

use std::{
    collections::VecDeque,
    future::{Future, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Request, Response};
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
    body::{BoxError, Copied, Message, RequestBody, ResponseBody, Then},
    config::Config,
    stored::Stored,
};
use crate::{engine::Encoded, record::Unavailable};

/// The response as the client gets it.
pub(super) struct Head<R> {
    pub(super) response: Response<ResponseBody<R>>,
    /// Whether its body is still being made: the client is not made to wait for that.
    pub(super) streamed: bool,
}

/// What a run tells the request that it is for.
pub(super) struct Run<R> {
    pub(super) config: Arc<Config>,
    pub(super) head: Option<oneshot::Sender<Head<R>>>,
    pub(super) limit: Limit,
    pub(super) finale: Finale<R>,
}

/// The end of a copied body: the client gets it when the response is on record.
pub(super) struct Finale<R>(Arc<Mutex<Option<Ending<R>>>>);

struct Ending<R> {
    client: UnboundedSender<Message<R>>,
    last: Option<Frame<Bytes>>,
}

/// Sends the end when it is dropped.
pub(super) struct UntilRecorded<R>(Finale<R>);

impl<R> Finale<R> {
    pub(super) fn new() -> (Self, UntilRecorded<R>) {
        let finale = Arc::new(Mutex::new(None));
        (Self(Arc::clone(&finale)), UntilRecorded(Self(finale)))
    }

    fn set(&self, client: UnboundedSender<Message<R>>, last: Option<Frame<Bytes>>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Ending { client, last });
    }
}

impl<R> Drop for UntilRecorded<R> {
    fn drop(&mut self) {
        let ending = self.0.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(Ending { client, last }) = ending {
            // It may have gone.
            let _ = client.send(Message::Last(last));
        }
    }
}

/// How long a handler may run on when its client is gone.
pub(super) struct Limit {
    gone: oneshot::Receiver<()>,
    run_on: Duration,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Limit {
    /// A limit, and what the client keeps as long as it is there.
    pub(super) fn new(run_on: Duration) -> (oneshot::Sender<()>, Self) {
        let (presence, gone) = oneshot::channel();
        (presence, Self { gone, run_on, timer: None })
    }

    /// Awaits a future; `None` when the time is up.
    async fn within<F: Future>(&mut self, future: F) -> Option<F::Output> {
        let mut future = pin!(future);
        poll_fn(|cx| match future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending => self.poll(cx).map(|()| None),
        })
        .await
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let timer = match &mut self.timer {
            Some(timer) => timer,
            timer => {
                let _ = ready!(Pin::new(&mut self.gone).poll(cx));
                timer.insert(Box::pin(tokio::time::sleep(self.run_on)))
            }
        };
        timer.as_mut().poll(cx)
    }
}

/// Marks a response of which nothing is kept, whatever its status: the request was not begun. The key is free for another
/// request, and for this one again.
///
/// A handler puts it into the response's extensions, for a request that it refuses before it has done anything.
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
    pub(super) async fn run<S, B>(mut self, mut handler: S, request: Request<RequestBody<B>>) -> Encoded
    where
        S: Service<Request<RequestBody<B>>, Response = Response<R>>,
    {
        // Made within the future that is caught: `call` may panic as well.
        let called = caught(async move { handler.call(request).await });
        let Some(Ok(Ok(mut response))) = self.limit.within(called).await else { return Encoded::Abandon };
        let status = response.status();
        let kept = response.extensions().get::<NotBegun>().is_none() && self.config.keeps(status);
        let request_id = self.config.dialect.name(response.headers_mut(), kept, status);
        if !kept {
            self.hand_on(response.map(ResponseBody::own), false);
            return Encoded::Release;
        }
        let headers = self.config.kept_headers(response.headers());
        Encoded::Keep(match self.copy(response).await {
            Ok(Copy { data, trailers, .. }) => {
                Stored { status, headers, body: data.freeze(), trailers, request_id }.encode()
            }
            Err(why) => Err(why),
        })
    }

    fn hand_on(&mut self, response: Response<ResponseBody<R>>, streamed: bool) {
        if let Some(head) = self.head.take() {
            // The client may have gone.
            let _ = head.send(Head { response, streamed });
        }
    }

    /// Hands a response on and copies its body. What is there at once, as a rule all of it, the client gets when it is
    /// on record; what takes longer, it gets as it comes.
    async fn copy(mut self, response: Response<R>) -> Result<Copy, Unavailable> {
        let (head, body) = response.into_parts();
        let mut body = Box::pin(body);
        let mut copy = Copy::new(self.config.max_response_body);
        let mut at_hand = VecDeque::new();
        let (then, copied) = loop {
            if body.size_hint().lower() > copy.room() {
                break (Then::Own(body), Err(Unavailable::TooLarge));
            }
            match poll_fn(|cx| Poll::Ready(poll_frame(&mut body, cx))).await {
                Poll::Pending => {
                    let (client, messages) = mpsc::unbounded_channel();
                    let then = Then::Copied(Copied { messages, left: body.size_hint(), presence: None });
                    self.hand_on(Response::from_parts(head, ResponseBody::new(at_hand, then)), true);
                    return self.stream(body, copy, client).await;
                }
                Poll::Ready(None) => break (Then::End, Ok(copy)),
                Poll::Ready(Some(Err(error))) => break (Then::Failed(error), Err(Unavailable::NotSerializable)),
                Poll::Ready(Some(Ok(frame))) => {
                    let fits = copy.take(&frame);
                    at_hand.push_back(frame);
                    if !fits {
                        break (Then::Own(body), Err(Unavailable::TooLarge));
                    }
                }
            }
        };
        self.hand_on(Response::from_parts(head, ResponseBody::new(at_hand, then)), false);
        copied
    }

    /// Copies the rest of a body on its way to the client.
    async fn stream(
        mut self,
        mut body: Pin<Box<R>>,
        mut copy: Copy,
        client: UnboundedSender<Message<R>>,
    ) -> Result<Copy, Unavailable> {
        // Whatever is sent to the client: it may have gone.
        loop {
            let Some(frame) = self.limit.within(poll_fn(|cx| poll_frame(&mut body, cx))).await else {
                return Err(Unavailable::NotSerializable);
            };
            match frame {
                None => {
                    self.finale.set(client, None);
                    return Ok(copy);
                }
                Some(Err(error)) => {
                    let _ = client.send(Message::Failed(error));
                    return Err(Unavailable::NotSerializable);
                }
                Some(Ok(frame)) if !copy.take(&frame) => {
                    let _ = client.send(Message::Frame(frame));
                    let _ = client.send(Message::Own(body));
                    return Err(Unavailable::TooLarge);
                }
                Some(Ok(frame)) if body.is_end_stream() => {
                    self.finale.set(client, Some(frame));
                    return Ok(copy);
                }
                Some(Ok(frame)) => {
                    let _ = client.send(Message::Frame(frame));
                }
            }
        }
    }
}

/// What is kept of a body.
struct Copy {
    data: BytesMut,
    trailers: Option<HeaderMap>,
    max_len: usize,
}

impl Copy {
    fn new(max_len: usize) -> Self {
        Self { data: BytesMut::new(), trailers: None, max_len }
    }

    fn room(&self) -> u64 {
        (self.max_len - self.data.len()) as u64
    }

    /// Copies a frame; false if that is too much.
    fn take(&mut self, frame: &Frame<Bytes>) -> bool {
        if let Some(data) = frame.data_ref() {
            if data.len() as u64 > self.room() {
                return false;
            }
            self.data.extend_from_slice(data);
        }
        if let Some(trailers) = frame.trailers_ref() {
            self.trailers.get_or_insert_default().extend(trailers.clone());
        }
        true
    }
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
async fn caught<F: Future>(future: F) -> std::thread::Result<F::Output> {
    let mut future = pin!(future);
    poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
        Ok(polled) => polled.map(Ok),
        Err(panic) => Poll::Ready(Err(panic)),
    })
    .await
}
