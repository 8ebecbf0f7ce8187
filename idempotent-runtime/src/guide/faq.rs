//! Questions that people ask in public trackers, in their words, and short answers.
//!
//! # Who makes the key, the client or the server?
//!
//! The one who knows that two tries are one thing: the caller. By the time that the server could make a key, it cannot tell a retry from a
//! second order. If the request has an id that the caller made once (an order, an event, a message), that is the key. See
//! [keys](super::keys).
//!
//! # Should I generate a new key for every retry?
//!
//! No. A retry with a new key is a new request, and runs. "It said that the key was used, so I took another one" is how cards are charged
//! twice. If the outcome of a try is unknown (a time-out, a broken connection, a 5xx), repeat it with the same key. See
//! [keys](super::keys#never-a-new-id-per-try).
//!
//! # Why do I get "this idempotency key was used before with other arguments"?
//!
//! The record of the key has another fingerprint. Often an argument differs between tries that does not belong to the request: a trace id,
//! the time of the try. Put it into `skip(…)`. With [`record_arguments`](crate::IdempotencyBuilder::record_arguments), the error names the
//! arguments that differ. See [same request](super::same_request).
//!
//! # The process crashed, and every retry gets 409. How do I get the key back?
//!
//! Wait for the lease, by default 30 seconds: then the next call takes the key over. It does not stay locked for the whole `ttl`. With
//! `abandoned = refuse`, or after the last attempt, it does stay locked, on purpose, until an operator resolves it or a
//! function with `reconcile` finds out: look what happened, and [resolve](super::running_it#resolve-an-abandoned-key) it. See [when it fails](super::when_it_fails).
//!
//! # My function takes longer than the lock. Will a second one start?
//!
//! No, as long as the process lives: a task renews the lease while the body runs, for hours if need be. A body that blocks a thread
//! of the runtime can keep that task from running; use `spawn_blocking` or `block_in_place`. If a claim is lost all the same, the store refuses the late result. See [how
//! long](super::how_long).
//!
//! # Are errors cached? I fixed the problem, and still get the old error.
//!
//! Not by default: an `Err` frees the key, and the next call runs the body. With `errors = keep`, or a function that says which, an `Err`
//! is kept for the `ttl`. The HTTP layer's `ietf` preset keeps 4xx but 408, 425 and 429, and no 5xx; others differ, and
//! [`keep_status`](crate::tower::IdempotencyLayerBuilder::keep_status) decides. See [error types](super::error_types).
//!
//! # A 400 used up my key. Why can I not send the corrected request?
//!
//! The layer has kept the 400, and the corrected body is another request. Refuse what you cannot read before the handler begins, and mark
//! that response as [`NotBegun`](crate::tower::NotBegun): the key stays free. With axum, take `OrNotBegun<Json<Order>>`. See
//! [HTTP](super::http_and_webhooks).
//!
//! # We receive the same webhook several times, though we answered 200. Is that normal?
//!
//! Yes. Senders promise to deliver at least once. Verify the signature, make the key from sender, endpoint and event id, and give it a
//! `ttl` that is longer than the sender's last retry. See [HTTP and webhooks](super::http_and_webhooks), and [how long](super::how_long)
//! for the senders.
//!
//! # The events have no id. Can I hash the body?
//!
//! You can leave out `key`: then the hash of all arguments is the key. But two equal events that are both meant become one, and a body
//! that differs between attempts, as by a counter of tries, becomes two. Ask the sender for an id first. See [keys](super::keys).
//!
//! # How long should I keep the keys?
//!
//! Longer than the last retry can take, counted from the end of the run. 24 hours fit a client that gives up in minutes. Stripe's events
//! can be sent again for 30 days. See [how long](super::how_long).
//!
//! # Redis or the database?
//!
//! If the effect is rows in a database, that database: record and rows are one commit. If the effect is elsewhere, ask whether you can
//! bear that a record is lost, since a failover of Redis can lose some. See [stores](super::stores).
//!
//! # Is this exactly once?
//!
//! In your database, yes, with `transaction = tx`. For other effects, nobody can promise it: a crash right after the effect looks like one
//! right before. You get one run at a time, one result, and a choice for the run that vanished. See [when it
//! fails](super::when_it_fails#which-policy).
//!
//! # The queue already says "exactly once". Do I need this?
//!
//! A queue can drop messages that a producer *sends* twice within some minutes. It cannot know how far your handler came when its process
//! died: it delivers the message again. So the handler still needs a record. See [consumers](super::consumers_and_outbox).
//!
//! # Our code calls Stripe with an idempotency key already. Is that enough?
//!
//! It protects the charge, as long as each attempt sends the same key: take [`child_key`](crate::Execution::child_key). It does not
//! protect what your code does besides: the row, the mail, the answer to your own caller. Put each into a [`step`](crate::step). See [when
//! it fails](super::when_it_fails).
//!
//! # Why is this call a 422? And who has the key while I get a 409?
//!
//! 422 is a [mismatch](crate::Error::Mismatch): the key was used before with another request. `idempotent explain OPERATION KEY --arguments
//! FILE` says which arguments differ, where they are recorded. 409 says that a run has the key, or that one vanished: `idempotent show
//! OPERATION KEY` says since when, and who it is, if you have set a [context](crate::IdempotencyBuilder::context). See
//! [running it](super::running_it).
//!
//! # Is the request's body compared byte by byte?
//!
//! Function arguments are compared by their values: the order of fields does not matter. The HTTP layer compares the bytes of a body, or
//! the JSON in it with [`RequestFingerprint::json`](crate::tower::RequestFingerprint::json). See [same request](super::same_request).
//!
//! # We renamed a function, and customers were charged again. Why?
//!
//! Without a `name`, the path of the function is part of every key. Give each function a `name`, and never change it. See [what a
//! refactoring changes](super::same_request#what-a-refactoring-changes).
//!
//! # Can I see whether an answer was replayed?
//!
//! Yes: [`with_disposition`](crate::with_disposition) tells how a call came to its answer. The HTTP layer marks a replay with the header
//! `Idempotent-Replayed: true`. See [running it](super::running_it) for events and counters.
