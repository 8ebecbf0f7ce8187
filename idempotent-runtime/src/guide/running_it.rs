//! 12. Watch it in production, and know what to do about each alert.
//!
//! Each answer and each fault is a `tracing` event, and with the feature `metrics` a counter: [the list](crate#events-and-counters) is on
//! the crate's first page. Neither has keys, arguments or results. They have the operation, the attempt, and the error's
//! [code](crate::Error::code). Events have a `key_digest` too: `idempotent show --digest` finds the record that one is about.
//!
//! # Alerts
//!
//! The first table is worth waking somebody. The second can wait until the morning.
//!
//! | counter | says | do this |
//! |---|---|---|
//! | `idempotent_outcomes_not_recorded_total` | a body ran, and its result is not on record: a retry may run it again | Find out why the store failed. Look up outside what the run did. With `abandoned = rerun`, be quicker than the next retry. |
//! | `idempotent_claims_lost_total` | a lease was over while its body ran: two bodies may have run | Look for a process that stood still (swapping, a blocked thread, a paused machine) and for a store that was out of reach. Then lengthen `lease`. |
//! | `idempotent_steps_not_asked_for_total` | a rerun did not ask for recorded steps: under new names they ran twice | Look for a deploy that renamed a step. Undo it. |
//! | `idempotent_calls_total{reason="store"}`, for minutes | nothing runs | Bring the store back. The event has the cause. |
//! | `idempotent_calls_total{reason="not-installed"}`, `{reason="operation"}` | a release calls before `install`, or with policies that contradict each other | Roll it back. |
//!
//! | counter | says | do this |
//! |---|---|---|
//! | `idempotent_calls_total{reason="abandoned"}` | a run vanished, and nobody may run it again | Resolve it: below. |
//! | `{reason="exhausted"}` | a key has failed as often as it may | Mend the cause, then have the key run again: below. |
//! | `{reason="mismatch"}` | one key for two requests | A client's mistake, or a deploy that changed an argument: see [same request](super::same_request). |
//! | `{reason="undecodable"}` | a release cannot read the results of an older one | Let the type read the old JSON. |
//! | `{reason="result-not-kept"}`, `idempotent_steps_not_kept_total` | a result is too large, or does not come back the same | Return an id instead; see the warning at the first call. |
//! | `{reason="in-flight"}`, rising | runs take longer than callers wait | Look at the body's duration; choose `wait`. |
//! | `{disposition="unprotected"}` | bodies run while the store is out of reach, because you chose so | Bring the store back; look for duplicates of that time. |
//! | `idempotent_runs_abandoned_total`, rising | panics, or callers that give up | Mend the panic. Use `detach` where callers give up. |
//! | `idempotent_deliveries_total{settled="dead"}`, `idempotent_outbox_messages_total{result="parked"}` | a message was given up | Read the dead letter, or the parked message. |
//! | `idempotent_outbox_oldest_seconds`, rising | no relay works, or the broker does not confirm | Look at the relay's events. |
//!
//! # Resolve an abandoned key
//!
//! Look outside whether it has happened: ask the bank. Then say so, and why; the record keeps it:
//!
//! ```text
//! idempotent list --state abandoned
//! idempotent explain payments.charge order-17
//! idempotent resolve payments.charge order-17 --result '{"id":"ch_1","amount_cents":4200}' --reason 'on the statement of 28 November'
//! idempotent resolve payments.charge order-18 --rerun --reason 'not on the statement'
//! ```
//!
//! With `--result`, all further calls get that result: it is the JSON that serde writes of what the function returns (in a program
//! [`Verdict::happened`](crate::operator::Verdict::happened)). With `--rerun`, the
//! next call runs the body, as its first attempt, and goes on after recorded [steps](crate::step()). A record that has changed since it
//! was shown is left alone, and so is a run that is alive. Records of the layer for HTTP have whole responses, which are not to be
//! written by hand: leave them to run again, or forget them. The command is in the crate `idempotent-cli`; its `doctor` looks at the server's
//! settings. Where you can ask the bank by program, let [`reconcile`](crate::Reconciled) do it.
//!
//! In a program:
//!
//! ```
//! use idempotent_runtime::{Error, Idempotency, operator::{Filter, Resolving, StateFilter, Verdict}};
//!
//! async fn not_on_the_statement(idempotency: &Idempotency) -> Result<(), Error> {
//!     let operator = idempotency.operator();
//!     let mut records = operator.list(Filter::new().operation("payments.charge").state(StateFilter::Abandoned));
//!     while let Some(page) = records.next_page().await? {
//!         for record in page {
//!             let verdict = Verdict::never_happened("the nightly job", "not on the statement");
//!             if operator.resolve(&record, verdict).await? != Resolving::Applied {
//!                 println!("{} has changed since", record.key.as_str());
//!             }
//!         }
//!     }
//!     Ok(())
//! }
//! # fn main() {}
//! ```
//!
//! With [`IdempotencyBuilder::context`](crate::IdempotencyBuilder::context) each record says who has, or had, its key: a trace's id, a
//! request's. The layer for HTTP takes the request's `x-request-id`.
//!
//! On PostgreSQL, `SELECT * FROM idempotent_records_view` shows the same.
//!
//! # A page for operators
//!
//! With the feature `admin`, your service serves all of this itself: what needs somebody, each record and what its next call gets, and,
//! for those whom you name, its resolution. Mount it inside your authentication, and say who may come in:
//!
//! ```
//! # #[cfg(feature = "admin")]
//! # mod page {
//! use axum::Router;
//! use idempotent_runtime::{Idempotency, admin::Admin};
//!
//! /// As your authentication leaves it in the extensions of a request.
//! #[derive(Clone)]
//! struct Staff { name: String, is_on_call: bool }
//!
//! fn operators_page(idempotency: &Idempotency) -> Router {
//!     Admin::new(idempotency.clone(), |request| request.extensions.get::<Staff>().is_some())
//!         .who_may_act(|request| {
//!             let staff = request.extensions.get::<Staff>()?;
//!             staff.is_on_call.then(|| staff.name.clone())
//!         })
//!         .router()
//! }
//! # }
//! # fn main() {}
//! ```
//!
//! and `Router::new().nest("/ops/idempotency", operators_page(&idempotency))`. Without `who_may_act` it only shows, and without `may_reveal`
//! it hides stored bytes. Where several processes serve it, give them one `secret`. It looks at 5,000 records a view, and links to the
//! rest. The address of a record has its key: keep the access log of this path as you keep keys.
//!
//! # Stop a process
//!
//! A kill is safe, and costs: duplicates wait until the lease is over, and `abandoned` decides. So stop taking calls, and then wait:
//!
//! ```
//! # use std::time::Duration;
//! # use idempotent_runtime::Idempotency;
//! async fn stop(idempotency: &Idempotency) {
//!     // The server has stopped: no new calls come. A service manager's time-out has to be longer than this.
//!     let left = idempotency.drain(Duration::from_secs(25)).await;
//!     if left > 0 { eprintln!("{left} runs are broken off") }
//! }
//! # fn main() {}
//! ```
//!
//! `IdempotencyLayer::idle` waits for the handlers of the HTTP layer. Consumers take a shutdown future, and drain by themselves.
//!
//! # The store
//!
//! - **Cleanup**: none to set up. Redis expires records; PostgreSQL and SQLite remove them in passing, while claims come.
//!   [`spawn_sweeper`](crate::Idempotency::spawn_sweeper) is for a store that gets no calls for long. Held records have no end.
//! - **Migrations**: `connect` migrates. Where the service's role may not create tables, run `PostgresStore::migrate` with another role before
//!   the deploy. A migration can have processes of an older release refused: the store's page names the versions.
//! - **PostgreSQL**: grant what the page of `store::postgres` lists, and leave room for five more connections a process. A pooler that
//!   shares sessions is refused.
//! - **Redis**: `maxmemory-policy noeviction`, `appendonly yes`, and `appendfsync always` where a second run costs money. `connect` refuses a
//!   server that evicts, and warns of one without an append-only file. It cannot see how often the file is synced.
//! - **SQLite**: a local disk; copy with `VACUUM INTO`; slew the machine's clock, and do not step it.
