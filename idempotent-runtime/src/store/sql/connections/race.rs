//! Waits for one of two futures.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    task::Poll,
};

/// The answer of the future that came first.
pub(super) enum First<A, B> {
    Left(A),
    Right(B),
}

/// Waits for the first of two futures, the left one where both are ready, and drops the other.
pub(super) async fn race<A, B>(left: impl Future<Output = A>, right: impl Future<Output = B>) -> First<A, B> {
    let (mut left, mut right) = (pin!(left), pin!(right));
    poll_fn(|cx| {
        if let Poll::Ready(answer) = left.as_mut().poll(cx) {
            return Poll::Ready(First::Left(answer));
        }
        right.as_mut().poll(cx).map(First::Right)
    })
    .await
}
