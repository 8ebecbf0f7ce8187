//! 11. Test your functions with repeats, faults and time.
//!
//! Each test needs a store of its own. The installed handle belongs to the process, so tests in one process would find each other's
//! records. Pass the handle to the function (`store = …`), and give each test [`Idempotency::memory`](crate::Idempotency::memory). Where the function
//! uses the installed handle, run the test in `testing::with(Idempotency::memory(), async { … })` (feature `testing`).
//!
//! # A repeat
//!
//! ```
//! # #[cfg(all(feature = "macros", feature = "memory"))] mod example {
//! use idempotent_runtime::{Disposition, Error, Idempotency, idempotent, with_disposition};
//!
//! struct Mailer { idempotency: Idempotency }
//!
//! impl Mailer {
//!     #[idempotent(name = "mail.send", key = message_id, store = self.idempotency)]
//!     async fn send(&self, message_id: &str, text: &str) -> Result<usize, Error> {
//!         Ok(text.len())
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # pub async fn main() -> Result<(), Error> {
//! let mailer = Mailer { idempotency: Idempotency::memory() };
//! let first = mailer.send("m-1", "hello").await?;
//! let (again, how) = with_disposition(mailer.send("m-1", "hello")).await;
//! assert_eq!((again?, how), (first, Disposition::Replayed)); // what a retry gets
//! assert!(matches!(mailer.send("m-1", "good bye").await, Err(Error::Mismatch { .. })));
//! # Ok(()) }
//! # }
//! # #[cfg(all(feature = "macros", feature = "memory"))] fn main() { example::main().unwrap() }
//! # #[cfg(not(all(feature = "macros", feature = "memory")))] fn main() {}
//! ```
//!
//! Write this test for each function that matters. It fails if the result does not come back the same, or if the key names too much.
//!
//! # What each call did
//!
//! `Probe` (feature `testing`) notes each call that a test makes, also those that are made deep inside a handler:
//!
//! ```
//! # #[cfg(all(feature = "macros", feature = "memory", feature = "testing"))] mod example {
//! use idempotent_runtime::{Error, Idempotency, assert_fingerprint, idempotent, testing::{self, Probe}};
//!
//! #[idempotent(name = "mail.send", key = message_id)]
//! async fn send(message_id: &str, text: &str) -> Result<usize, Error> {
//!     Ok(text.len())
//! }
//!
//! /// The handler of a webhook, which comes twice.
//! async fn on_event(message_id: &str) -> Result<usize, Error> {
//!     send(message_id, "hello").await
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # pub async fn main() -> Result<(), Error> {
//! let probe = Probe::new();
//! let twice = probe.watch(async { (on_event("m-1").await, on_event("m-1").await) });
//! testing::with(Idempotency::memory(), twice).await.1?;
//! probe.assert_ran_once("mail.send", "m-1");
//! probe.assert_replayed("mail.send", "m-1");
//!
//! // A renamed argument, or another type, would turn the retries of live calls into refusals: this line finds it in the review.
//! assert_fingerprint!(send("m-1", "hello"), "1490976c857c943e2d69f3224e2da82cd35195e451c555e88c85f47d58ff2639");
//! # Ok(()) }
//! # }
//! # #[cfg(all(feature = "macros", feature = "memory", feature = "testing"))] fn main() { example::main().unwrap() }
//! # #[cfg(not(all(feature = "macros", feature = "memory", feature = "testing")))] fn main() {}
//! ```
//!
//! A unit test of the body alone takes `Idempotency::passthrough()`: each call runs, nothing is kept.
//!
//! # A process that dies
//!
//! [`testing::interrupt`](crate::testing::interrupt) makes a call again and again, and each time interrupts it at another point: the future
//! is dropped, the process dies, the body panics, the store's reply is lost. It then has the call made once more, as a retry would be, and
//! checks what you say must hold. It finds the mail that is sent twice, the child key that changes from attempt to attempt, and the
//! counter that is raised before the claim. Write it for each function with an effect outside of the store.
//!
//! # Time, and a store that fails
//!
//! The feature `testing`, as a dev-dependency, has a clock that you set and a store that fails on demand:
//!
//! ```
//! # #[cfg(all(feature = "memory", feature = "testing"))] mod example {
//! use std::time::Duration;
//! use idempotent_runtime::{Disposition, Error, Idempotency, store::memory::MemoryStore, with_disposition};
//! use idempotent_runtime::testing::{Fault, FaultyStore, ManualClock, Method};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # pub async fn main() -> Result<(), Error> {
//! let clock = ManualClock::new();
//! let store = FaultyStore::new(MemoryStore::builder().clock(&clock).build());
//! let idempotency = Idempotency::new(store.clone());
//! let charge = async || {
//!     let call = idempotency.call("payments.charge").key("order-17");
//!     with_disposition(call.run(async { Ok::<_, Error>("charged".to_owned()) })).await
//! };
//!
//! // The store takes the claim, and its reply is lost: it is asked again, and knows its own claim.
//! store.next(Method::Claim, [Fault::LOST_REPLY]);
//! assert_eq!(charge().await.1, Disposition::Executed);
//! assert_eq!(charge().await.1, Disposition::Replayed);
//!
//! // A retry that comes after the time to live (24 h) runs again.
//! clock.advance(Duration::from_secs(25 * 60 * 60));
//! assert_eq!(charge().await.1, Disposition::Executed);
//! # Ok(()) }
//! # }
//! # #[cfg(all(feature = "memory", feature = "testing"))] fn main() { example::main().unwrap() }
//! # #[cfg(not(all(feature = "memory", feature = "testing")))] fn main() {}
//! ```
//!
//! | to test | use |
//! |---|---|
//! | a crash, at each point of a function | [`interrupt`](crate::testing::interrupt) |
//! | a caller that gives up in mid-run | drop the future: `tokio::time::timeout`, as in [when it fails](super::when_it_fails) |
//! | two calls at once | `tokio::join!`, as in [five minutes](super::five_minutes) |
//! | a lost request, a lost reply, a store that hangs | [`FaultyStore`](crate::testing::FaultyStore), [`Gate`](crate::testing::Gate) |
//! | expiry, a lease that lapses | [`ManualClock`](crate::testing::ManualClock), with the embedded store only |
//! | code that *calls* an annotated function | a double that returns [`Error::in_flight`](crate::Error::in_flight), [`mismatch`](crate::Error::mismatch), [`abandoned`](crate::Error::abandoned) or [`suspended`](crate::Error::suspended) |
//! | a consumer | `ScriptedBroker`, with the feature `consumer` |
//! | a `Store` of your own | the [conformance suite](crate::testing::conformance) |
//!
//! With tokio's paused time (`start_paused`), calls through Redis, PostgreSQL and SQLite time out at once: use the embedded store there.
//! `ManualClock` moves the store's time, not tokio's: a `wait` and the pauses between tries still take real time.
//!
//! # Before production
//!
//! Test once against the store that you will use, as its own process, and kill yours in the middle of a body. The programs of the examples (`payments`,
//! `orders`, `inbox`) do this, and show how to count effects afterwards.
