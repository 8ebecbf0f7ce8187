//! 4. Choose how long a result is kept, and how long a run may be silent.
//!
//! | option | counts from | default | ask |
//! |---|---|---|---|
//! | `ttl` | the end of the run | 24 h | when can the last retry come? |
//! | `lease` | the claim, and each renewal | 30 s | how long may a process be silent until another one takes over? |
//! | `wait` | the call | 10 s | how long may a duplicate wait for the running call? |
//!
//! All are counted by the store's clock, except `wait`.
//!
//! # `ttl`: longer than the longest retry
//!
//! After the `ttl` the record is gone: the next call with this key *runs the body again*, and nobody is warned. So the `ttl` follows from
//! the sender:
//!
//! | who may repeat | the last repeat | `ttl`, at least |
//! |---|---|---|
//! | Stripe's webhooks | after 30 days, by hand | 30 d |
//! | GitHub's webhooks | after 3 days, by hand (Enterprise Server: 7) | 3 d (7 d) |
//! | Shopify's webhooks | after 4 hours | 4 h |
//! | Standard Webhooks | as the sender says | ask the sender, else 30 d |
//! | Amazon SQS | the queue's `MessageRetentionPeriod`: [4 days by default, 14 at most](https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SetQueueAttributes.html); later, from its dead-letter queue | that, and the time in the dead-letter queue |
//! | Kafka | the topic's `retention.ms`: [7 days by default](https://kafka.apache.org/documentation/#topicconfigs_retention.ms) | that |
//! | RabbitMQ and other queues | as long as the message stays in the queue, or in a dead-letter queue | the time after which nobody replays it |
//! | your own client | its last try; for an app that was offline, one after the next start | that |
//!
//! The facts about webhooks have their sources in [`webhooks`](crate::webhooks#the-time-to-live). Add a day to each: clocks differ, and
//! people repeat by hand after a weekend.
//!
//! The other end counts, too. A system that you call with a [`child_key`](crate::Execution::child_key) forgets that key at some time:
//! Stripe [may remove keys after 24 hours](https://docs.stripe.com/api/idempotent_requests). After that, a rerun of an abandoned run is a
//! second charge there. If that can happen, use `abandoned = reconcile(…)`: see [when it fails](super::when_it_fails).
//!
//! The price of a long `ttl` is room: records a day, times days, times the size of a record. [Stores](super::stores) has the figures.
//!
//! ```
//! # #[cfg(feature = "macros")] mod example {
//! # use idempotent_runtime::{Error, idempotent};
//! // Stripe's events: 30 days, and one to spare.
//! #[idempotent(name = "hooks.paid", key = ("stripe", event_id), ttl = "31d", lease = "1m", wait = "0s")]
//! async fn paid(event_id: &str, cents: u64) -> Result<(), Error> {
//!     println!("booked {cents}");
//!     Ok(())
//! }
//! # }
//! # fn main() {}
//! ```
//!
//! # Expired, abandoned, held
//!
//! - A **finished** record goes at the end of its `ttl`. A call then counts as the first one, with any arguments.
//! - A run that **failed**, and whose attempts or [steps](crate::step) are remembered, is remembered for the `ttl` from its end. Each
//!   further run begins that time anew.
//! - A run that **vanished** under `abandoned = rerun` may be taken over: at once after a panic or a drop, once its lease is over after a
//!   kill. If no call comes for the `ttl`, it is forgotten.
//! - Under `refuse` and `reconcile`, a vanished run **holds** its key with no end: time alone never licenses a second run. An operator or
//!   a function with `reconcile` ends it, also one of another release.
//!
//! The stores remove what has expired by themselves.
//!
//! # `lease`: how soon after a kill
//!
//! A body may run for hours: a task renews the lease at each third of it. Only if the process is killed or stopped does nobody renew it.
//! So the `lease` is no limit for the body. It is the time for which the duplicates of a killed run are told `InFlight`.
//!
//! - Shorter: retries go on sooner after a kill. A process that stands still for so long can lose its claim while it is alive: if another
//!   call takes the key over, the result of the first run is refused.
//! - Longer: such pauses do no harm, and retries wait longer after a kill.
//!
//! The renewal needs Tokio's timers. A body that blocks a thread of the runtime for longer than the lease can hold them up and lose its claim:
//! put such work into `spawn_blocking` or `block_in_place`. The `lease` is 10 ms or more, and not longer than the `ttl`.
//!
//! # `wait`: what a duplicate does meanwhile
//!
//! A duplicate waits this long for the running call, and then gets [`InFlight`](crate::Error::InFlight) with the time after which to ask
//! again. Choose it shorter than your caller's time-out. `wait = "0s"` refuses at once: this fits senders that come back by themselves.
//!
//! # After a failed run
//!
//! `retry_after` makes the next run wait, and `max_attempts` ends the tries. Both are counted in the record, so that they hold for all
//! processes. See [`Operation::max_attempts`](crate::Operation::max_attempts), and choose the `ttl` longer than the sum of the pauses.
