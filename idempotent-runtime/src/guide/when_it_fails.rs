//! 5. Look up what the next caller gets after an error, a panic, a kill or a lost reply.
//!
//! A run ends in one of three ways. It returns `Ok`: the result is kept. It returns `Err`: nothing is in doubt, and the key is free again.
//! Or it *vanishes*, by a panic, a dropped future or a kill: what it did outside, nobody knows. The option `abandoned` decides what the
//! next call does then. An `Err` while a [step](crate::step) is in doubt counts as vanished, too.
//!
//! The next call, with the same key and the same arguments, gets:
//!
//! | the run | `rerun` (default) | `refuse` | `reconcile(f)` | `transaction = tx` |
//! |---|---|---|---|---|
//! | returned `Ok` | the result | the result | the result | the result, if it was committed |
//! | returned `Err` | runs the body | runs the body | runs the body; `f` is not asked | runs the body: its writes were rolled back |
//! | returned `Err`, with `errors = keep` | the same `Err` | the same `Err` | the same `Err` | the same `Err`, if it was committed |
//! | panicked | runs the body | `Abandoned` | asks `f` | runs the body: nothing was committed |
//! | was dropped by its caller | runs the body | `Abandoned` | asks `f` | runs the body: nothing was committed |
//! | its process was killed | `InFlight` until the lease is over, then runs the body | `InFlight`, then `Abandoned` | `InFlight`, then asks `f` | the result if it was committed, else runs the body |
//! | returned `Ok`, and the caller lost the reply | the result | the result | the result | the result, if it was committed |
//! | returned `Ok`, and the reply to `COMMIT` was lost | – | – | – | the result if it was committed, else runs the body |
//! | lost its claim to another run, which has ended | the other run's result | the same | the same | – |
//! | was the last that `max_attempts` allows, and returned `Err` | `Exhausted` | `Exhausted` | `Exhausted` | – |
//! | was the last, and vanished | `Abandoned` | `Abandoned` | asks `f`; the body does not run again | – |
//! | is under way | waits, then its result or `InFlight` | the same | the same | waits for its commit |
//!
//! With `retry_after`, calls that come too early get [`Suspended`](crate::Error::Suspended). With [steps](crate::step), a rerun does not
//! repeat those that are recorded. The attribute's page has [the rules](macro@crate::idempotent#after-a-crash), and the crate's
//! `ARCHITECTURE.md` has every transition.
//!
//! # Which policy
//!
//! | the effect | choose |
//! |---|---|
//! | is in the store's own database | `transaction = tx`: it happens once, whatever is killed. See [effects in your database](super::effects_in_your_database) |
//! | goes to a system that takes an idempotency key | `rerun`, and pass [`child_key`](crate::Execution::child_key): that system recognises the repeat, as long as it keeps the key |
//! | goes to a system that can be asked | `reconcile(f)`, where `f` asks |
//! | can be neither recognised nor asked, and twice is worse than never | `refuse`, and an alert: see [running it](super::running_it). The key is held until an operator resolves it or a function with `reconcile` finds out |
//! | does no harm twice | `rerun` |
//!
//! The policy of the call that *began* the run decides whether its key is held. So a run that vanished under `rerun` does not become safe
//! by a later release with `refuse`.
//!
//! # An `Err` says: it did not happen
//!
//! The other system did not answer in time. Perhaps it has charged the card. If your body returns `Err` then, the key is free, and a retry
//! asks the other system a second time. So either pass a `child_key`, or do not return an `Err` where you do not know: end such a run
//! without an outcome, as [`step`](crate::step#no-answer) shows.
//!
//! # A caller that gives up
//!
//! A `timeout` around the call, or a client that disconnects, drops the future. The body stops where it is, as any async function does.
//! With `detach` it runs on, and a later call gets its result. The HTTP layer lets handlers run on by itself.
//!
//! ```
//! # #[cfg(all(feature = "macros", feature = "memory"))] mod example {
//! use std::time::Duration;
//! use idempotent_runtime::{Error, Idempotency, idempotent, install, installed, operator::{Resolving, Verdict}};
//!
//! #[idempotent(name = "cards.print", key = card, abandoned = refuse)]
//! async fn print(card: u32, minutes: u64) -> Result<(), Error> {
//!     tokio::time::sleep(Duration::from_secs(60 * minutes)).await; // the printer
//!     Ok(())
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # pub async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # install(Idempotency::memory())?;
//! let gave_up = tokio::time::timeout(Duration::from_millis(5), print(17, 2)).await;
//! assert!(gave_up.is_err()); // the body was dropped: is there half a card in the printer?
//! assert!(matches!(print(17, 2).await, Err(Error::Abandoned { .. }))); // for every later call
//!
//! // Somebody has looked, and there is none. The next call runs the body.
//! let seen = installed()?.inspect("cards.print", &17).await?.expect("a record");
//! let verdict = Verdict::never_happened("alice", "the printer is empty");
//! assert_eq!(installed()?.operator().resolve(&seen, verdict).await?, Resolving::Applied);
//! # Ok(()) }
//! # }
//! # #[cfg(all(feature = "macros", feature = "memory"))] fn main() { example::main().unwrap() }
//! # #[cfg(not(all(feature = "macros", feature = "memory")))] fn main() {}
//! ```
//!
//! # The store fails
//!
//! - **Before the body:** the call gets [`Store`](crate::Error::Store), and the body does not run. A claim whose reply was lost is asked
//!   again, and the store recognises it.
//! - **After the body:** the call gets its result, and an error event. The library tries to record it until the lease is near its end. If
//!   that fails, the run counts as killed.
//! - **The store has lost the record:** the next call runs the body. [Stores](super::stores) says when that can be.
//!
//! # Two processes at once
//!
//! A process that was stopped for longer than its lease may go on while another one runs the body. The store refuses its result, and its
//! caller gets the other run's, or a retryable [`ClaimLost`](crate::Error::ClaimLost) while there is none. What it does *outside* meanwhile, no lease can prevent: pass [`fence`](crate::Execution::fence) to systems
//! that can refuse an older number, or a `child_key`.
