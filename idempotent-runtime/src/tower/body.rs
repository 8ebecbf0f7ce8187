//! The bodies of requests behind the layer, and of responses in front of it.

use std::{
    collections::VecDeque,
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::{mpsc::UnboundedReceiver, oneshot};

/// The error of a body.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The body of a request behind the layer: as it came, or read to its end.
pub struct RequestBody<B>(Incoming<B>);

enum Incoming<B> {
    Through(B),
    Read { data: Option<Bytes>, trailers: Option<HeaderMap> },
}

impl<B> RequestBody<B> {
    pub(super) const fn through(body: B) -> Self {
        Self(Incoming::Through(body))
    }

    pub(super) fn read(data: Bytes, trailers: Option<HeaderMap>) -> Self {
        Self(Incoming::Read { data: (!data.is_empty()).then_some(data), trailers })
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for RequestBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        match &mut self.get_mut().0 {
            Incoming::Through(body) => Pin::new(body).poll_frame(cx),
            Incoming::Read { data, trailers } => {
                let frame = data.take().map(Frame::data).or_else(|| trailers.take().map(Frame::trailers));
                Poll::Ready(frame.map(Ok))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Incoming::Through(body) => body.is_end_stream(),
            Incoming::Read { data, trailers } => data.is_none() && trailers.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Incoming::Through(body) => body.size_hint(),
            Incoming::Read { data, .. } => SizeHint::with_exact(data.as_ref().map_or(0, |data| data.len() as u64)),
        }
    }
}

/// The body of a response in front of the layer.
pub struct ResponseBody<B> {
    /// Frames that are there already.
    ready: Frames,
    then: Then<B>,
}

/// Frames in their order. The first one, as a rule the only one, costs no allocation.
#[derive(Default)]
pub(super) struct Frames {
    first: Option<Frame<Bytes>>,
    rest: VecDeque<Frame<Bytes>>,
}

impl Frames {
    pub(super) fn push(&mut self, frame: Frame<Bytes>) {
        if self.is_empty() {
            self.first = Some(frame);
        } else {
            self.rest.push_back(frame);
        }
    }

    fn pop(&mut self) -> Option<Frame<Bytes>> {
        self.first.take().or_else(|| self.rest.pop_front())
    }

    fn is_empty(&self) -> bool {
        self.first.is_none() && self.rest.is_empty()
    }

    /// The number of bytes of data in the frames.
    fn len(&self) -> u64 {
        self.first.iter().chain(&self.rest).filter_map(Frame::data_ref).map(|data| data.len() as u64).sum()
    }
}

/// The part of a body after the frames that are there already.
pub(super) enum Then<B> {
    End,
    Failed(BoxError),
    /// The handler's own body, or the rest of it.
    Own(OwnBody<B>),
    /// A body that is copied on its way to the client.
    Copied(CopiedBody<B>),
}

/// A body that the client reads itself.
pub(super) struct OwnBody<B> {
    body: Pin<Box<B>>,
    /// Gets the trailers. It is dropped once there can be none.
    trailers: Option<oneshot::Sender<HeaderMap>>,
}

impl<B> OwnBody<B> {
    pub(super) const fn new(body: Pin<Box<B>>) -> Self {
        Self { body, trailers: None }
    }

    /// Also returns where the trailers will be told.
    pub(super) fn with_trailers(body: Pin<Box<B>>) -> (Self, oneshot::Receiver<HeaderMap>) {
        let (sender, receiver) = oneshot::channel();
        (Self { body, trailers: Some(sender) }, receiver)
    }
}

impl<B> OwnBody<B>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let polled = ready!(self.body.as_mut().poll_frame(cx));
        match &polled {
            Some(Ok(frame)) => {
                if let Some(trailers) = frame.trailers_ref()
                    && let Some(sender) = self.trailers.take()
                {
                    // Fails if nobody waits for them any more.
                    let _ = sender.send(trailers.clone());
                }
            }
            Some(Err(_)) | None => self.trailers = None,
        }
        Poll::Ready(polled.map(|frame| frame.map_err(Into::into)))
    }
}

/// The reading end of a body that is copied.
pub(super) struct CopiedBody<B> {
    pub(super) messages: UnboundedReceiver<Message<B>>,
    /// The length that is still to come.
    pub(super) left: SizeHint,
}

/// A message from the end that copies to the end that the client reads.
pub(super) enum Message<B> {
    Frame(Frame<Bytes>),
    /// The last frame, or the end.
    Last(Option<Frame<Bytes>>),
    /// The rest of the body, which is too large to be copied.
    Own(OwnBody<B>),
    Failed(BoxError),
}

impl<B> ResponseBody<B> {
    pub(super) const fn new(ready: Frames, then: Then<B>) -> Self {
        Self { ready, then }
    }

    pub(super) fn own(body: B) -> Self {
        Self::new(Frames::default(), Then::Own(OwnBody::new(Box::pin(body))))
    }

    pub(super) fn whole(data: Bytes, trailers: Option<HeaderMap>) -> Self {
        let mut ready = Frames::default();
        if !data.is_empty() {
            ready.push(Frame::data(data));
        }
        if let Some(trailers) = trailers {
            ready.push(Frame::trailers(trailers));
        }
        Self::new(ready, Then::End)
    }
}

impl<B> Body for ResponseBody<B>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        if let Some(frame) = this.ready.pop() {
            return Poll::Ready(Some(Ok(frame)));
        }
        let (answer, then) = match &mut this.then {
            Then::End => return Poll::Ready(None),
            Then::Own(own) => return own.poll_frame(cx),
            Then::Failed(error) => (Some(Err(std::mem::replace(error, "the body has failed".into()))), Then::End),
            Then::Copied(copied) => match ready!(copied.messages.poll_recv(cx)) {
                Some(Message::Frame(frame)) => {
                    copied.passed(&frame);
                    return Poll::Ready(Some(Ok(frame)));
                }
                Some(Message::Last(frame)) => (frame.map(Ok), Then::End),
                Some(Message::Failed(error)) => (Some(Err(error)), Then::End),
                Some(Message::Own(mut own)) => {
                    let polled = own.poll_frame(cx);
                    this.then = Then::Own(own);
                    return polled;
                }
                None => (Some(Err("the handler was stopped".into())), Then::End),
            },
        };
        this.then = then;
        Poll::Ready(answer)
    }

    fn is_end_stream(&self) -> bool {
        self.ready.is_empty()
            && match &self.then {
                Then::End => true,
                Then::Own(own) => own.body.is_end_stream(),
                Then::Failed(_) | Then::Copied(_) => false,
            }
    }

    fn size_hint(&self) -> SizeHint {
        let then = match &self.then {
            Then::End => SizeHint::with_exact(0),
            Then::Failed(_) => SizeHint::default(),
            Then::Own(own) => own.body.size_hint(),
            Then::Copied(copied) => copied.left,
        };
        let ready = self.ready.len();
        // `checked_add`: an upper bound of `u64::MAX` has no meaning, and would overflow.
        hint(then.lower().saturating_add(ready), then.upper().and_then(|upper| upper.checked_add(ready)))
    }
}

/// Does not show the data, which does not belong into logs.
impl<B> fmt::Debug for RequestBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RequestBody(..)")
    }
}

/// Does not show the data, which does not belong into logs.
impl<B> fmt::Debug for ResponseBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ResponseBody(..)")
    }
}

/// The data and trailers of a body, gathered up to a length.
pub(super) struct Gathered {
    /// The first piece of data, as it came: as a rule it is the only one. A second one moves both into `data`.
    first: Bytes,
    data: BytesMut,
    trailers: Option<HeaderMap>,
    max_len: usize,
}

impl Gathered {
    pub(super) fn new(max_len: usize) -> Self {
        Self { first: Bytes::new(), data: BytesMut::new(), trailers: None, max_len }
    }

    /// The number of bytes that there is room for.
    pub(super) fn room(&self) -> u64 {
        (self.max_len - self.first.len() - self.data.len()) as u64
    }

    /// Adds a frame; `false` if there is no room for it.
    pub(super) fn take(&mut self, frame: &Frame<Bytes>) -> bool {
        if let Some(data) = frame.data_ref() {
            if data.len() as u64 > self.room() {
                return false;
            }
            if self.first.is_empty() && self.data.is_empty() {
                self.first = data.clone();
            } else {
                self.data.extend_from_slice(&std::mem::take(&mut self.first));
                self.data.extend_from_slice(data);
            }
        }
        if let Some(trailers) = frame.trailers_ref() {
            self.trailers.get_or_insert_default().extend(trailers.clone());
        }
        true
    }

    /// The data and trailers.
    pub(super) fn into_parts(self) -> (Bytes, Option<HeaderMap>) {
        let data = if self.data.is_empty() { self.first } else { self.data.freeze() };
        (data, self.trailers)
    }
}

impl<B> CopiedBody<B> {
    fn passed(&mut self, frame: &Frame<Bytes>) {
        let len = frame.data_ref().map_or(0, |data| data.len() as u64);
        let upper = self.left.upper().map(|upper| upper.saturating_sub(len));
        self.left = hint(self.left.lower().saturating_sub(len), upper);
    }
}

fn hint(lower: u64, upper: Option<u64>) -> SizeHint {
    let mut hint = SizeHint::new();
    hint.set_lower(lower);
    if let Some(upper) = upper {
        hint.set_upper(upper.max(lower));
    }
    hint
}

#[cfg(test)]
mod tests {
    use http::{HeaderValue, header::ETAG};
    use http_body_util::{BodyExt, Empty};

    use super::*;

    fn data(text: &'static str) -> Frame<Bytes> {
        Frame::data(Bytes::from_static(text.as_bytes()))
    }

    fn trailers() -> HeaderMap {
        HeaderMap::from_iter([(ETAG, HeaderValue::from_static("1"))])
    }

    #[test]
    fn one_piece_is_not_copied() {
        let piece = Bytes::from_static(b"one piece");
        let mut gathered = Gathered::new(9);
        assert!(gathered.take(&Frame::data(piece.clone())));
        assert_eq!(gathered.into_parts().0.as_ptr(), piece.as_ptr());
    }

    #[test]
    fn pieces_are_put_together_in_their_order() {
        let mut gathered = Gathered::new(5);
        for piece in ["", "ab", "", "c", "de", ""] {
            assert!(gathered.take(&data(piece)));
        }
        assert!(gathered.take(&Frame::trailers(trailers())));
        assert_eq!(gathered.room(), 0);
        assert_eq!(gathered.into_parts(), (Bytes::from_static(b"abcde"), Some(trailers())));
    }

    #[test]
    fn what_is_too_much_is_left_out() {
        for pieces in [&["abcd"][..], &["ab", "cd"], &["a", "b", "cd"]] {
            let mut gathered = Gathered::new(3);
            let (last, fit) = pieces.split_last().unwrap();
            assert!(fit.iter().all(|piece| gathered.take(&data(piece))));
            assert!(!gathered.take(&data(last)), "{pieces:?}");
            assert_eq!(gathered.into_parts().0, fit.concat());
        }
    }

    #[test]
    fn a_bound_of_no_meaning_is_no_length() {
        for (lower, upper, sum) in
            [(0, u64::MAX, (2, None)), (u64::MAX, u64::MAX, (u64::MAX, None)), (0, 5, (2, Some(7)))]
        {
            let mut ready = Frames::default();
            ready.push(data("ab"));
            let (_client, messages) = tokio::sync::mpsc::unbounded_channel();
            let left = hint(lower, Some(upper));
            let body = ResponseBody::<Empty<Bytes>>::new(ready, Then::Copied(CopiedBody { messages, left }));
            assert_eq!((body.size_hint().lower(), body.size_hint().upper()), sum);
        }
    }

    #[tokio::test]
    async fn what_has_passed_is_no_longer_to_come() {
        let (client, messages) = tokio::sync::mpsc::unbounded_channel();
        let copied = CopiedBody { messages, left: SizeHint::with_exact(3) };
        let mut body = ResponseBody::<Empty<Bytes>>::new(Frames::default(), Then::Copied(copied));
        assert!(client.send(Message::Frame(data("ab"))).is_ok());
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "ab");
        assert_eq!(body.size_hint().exact(), Some(1));
    }

    #[test]
    fn debug_does_not_show_data() {
        let canary = || Bytes::from_static(b"canary");
        let request = RequestBody::<Empty<Bytes>>::read(canary(), Some(trailers()));
        let own = ResponseBody::own(http_body_util::Full::new(canary()));
        let whole = ResponseBody::<Empty<Bytes>>::whole(canary(), None);
        for shown in [format!("{request:?}"), format!("{own:?}"), format!("{whole:?}")] {
            assert!(!shown.contains("canary"), "{shown}");
        }
    }

    #[tokio::test]
    async fn frames_come_in_their_order() {
        let mut ready = Frames::default();
        for piece in ["a", "b", "c"] {
            ready.push(data(piece));
        }
        ready.push(Frame::trailers(trailers()));
        let mut body = ResponseBody::<Empty<Bytes>>::new(ready, Then::End);
        for (piece, left) in [("a", 2), ("b", 1), ("c", 0)] {
            assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), piece);
            assert_eq!(body.size_hint().exact(), Some(left));
            assert!(!body.is_end_stream());
        }
        assert_eq!(body.frame().await.unwrap().unwrap().into_trailers().unwrap(), trailers());
        assert!(body.is_end_stream());
        assert!(body.frame().await.is_none());
    }
}
