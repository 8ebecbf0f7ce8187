//! The fingerprint of a call, without the call.

use std::{
    future::Future,
    pin::pin,
    sync::{Arc, Mutex},
    task::{Context, Waker},
};

use super::surroundings::Surroundings;
use crate::{Idempotency, hex, lock::lock, request::fingerprint::Fingerprint};

/// The fingerprint of the first call that is made while it is captured.
#[derive(Clone, Default)]
pub(crate) struct Captured(Arc<Mutex<Option<Fingerprint>>>);

/// Checks the fingerprint of a call of an annotated function, in 64 hexadecimal digits. Its body does not run, and nothing is claimed.
///
/// The fingerprint decides whether a retry is the same request. A renamed argument, a changed type or a new field changes it. Retries of
/// calls that an earlier release has taken are then refused as mismatches. This line finds that in the review, not after the deploy.
///
/// ```
/// # #[cfg(all(feature = "macros", feature = "memory"))] mod example {
/// use idempotent_runtime::{Error, assert_fingerprint, idempotent};
///
/// #[idempotent(name = "payments.charge", key = order_id)]
/// async fn charge(order_id: &str, cents: u64) -> Result<String, Error> {
///     Ok(format!("{cents}"))
/// }
///
/// # pub fn main() {
/// assert_fingerprint!(charge("order-17", 4200), "55a1e0a7576bc9848e6eb389515df02b50532561710ae21165a18cbc8df10f94");
/// # }
/// # }
/// # #[cfg(all(feature = "macros", feature = "memory"))] fn main() { example::main() }
/// # #[cfg(not(all(feature = "macros", feature = "memory")))] fn main() {}
/// ```
///
/// Write the line with `""` first: the failure says the fingerprint. It needs no runtime. The call has to be the future of the function, or
/// another that makes the call when it is polled first.
///
/// # Panics
///
/// If the fingerprint is another one, or no call is made.
#[macro_export]
macro_rules! assert_fingerprint {
    ($call:expr, $expected:expr $(,)?) => {
        $crate::testing::check_fingerprint(|| $call, $expected)
    };
}

/// See [`assert_fingerprint!`](crate::assert_fingerprint).
#[doc(hidden)]
#[track_caller]
pub fn check_fingerprint<F: Future>(call: impl FnOnce() -> F, expected: &str) {
    let captured = Captured::default();
    let memory = Idempotency::memory();
    let handle = super::surroundings::handle().unwrap_or_else(|| Box::leak(Box::new(memory)));
    let around = Surroundings { handle: Some(handle), captured: Some(captured.clone()), ..Surroundings::default() };
    around.enter(|| {
        // Its result does not matter: the call is refused when its fingerprint is known.
        let _ = pin!(call()).poll(&mut Context::from_waker(Waker::noop()));
    });
    let fingerprint = lock(&captured.0).take().expect("the future makes an idempotent call when it is polled first");
    let actual: String = fingerprint.as_bytes().iter().copied().flat_map(hex::lower).collect();
    assert!(
        actual == expected,
        "the fingerprint of this call is \"{actual}\", and not \"{expected}\": retries of calls that a release with the other \
         fingerprint has taken are refused as mismatches"
    );
}

/// Takes the fingerprint of a call, if it is asked for. Such a call goes no further.
pub(crate) fn capture(fingerprint: Fingerprint) -> bool {
    let captured = Surroundings::read(|around| around.captured.clone()).flatten();
    captured.is_some_and(|captured| {
        lock(&captured.0).get_or_insert(fingerprint);
        true
    })
}
