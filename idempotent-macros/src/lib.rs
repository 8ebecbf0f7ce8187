//! The `#[idempotent]` attribute. Depend on `idempotent-runtime`, which re-exports it, and not on this crate.

mod args;
mod codegen;
mod diagnostics;
mod duration;
mod expand;
mod function;
mod template;
mod types;
mod validate;

use std::path::Path;

use proc_macro::{Span, TokenStream};

/// Runs an async function once per key: a repeat gets the stored result, whichever process it lands on.
///
/// ```
/// use idempotent_runtime::{Error, Idempotency, idempotent, install};
///
/// #[idempotent(name = "payments.charge", key = order_id, ttl = "24h")]
/// async fn charge(order_id: &str, amount_cents: u64) -> Result<String, Error> {
///     Ok(format!("charged {amount_cents} for {order_id}"))
/// }
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// install(Idempotency::memory())?; // in a service: `Idempotency::connect("postgres://…").await?`
/// let first = charge("order-17", 500).await?;
/// assert_eq!(charge("order-17", 500).await?, first); // replayed: the body did not run again
/// assert!(matches!(charge("order-17", 999).await, Err(Error::Mismatch { .. }))); // same key, other arguments
/// # Ok(()) }
/// ```
///
/// # Options
///
/// | option | default | meaning |
/// |---|---|---|
/// | `key = EXPR` | the hash of all arguments | Identifies the call: an expression over the arguments, a tuple of expressions, or a template. See [Keys](#keys). |
/// | `ttl = "24h"` | 24 h | Keeps a finished result for this long, counted from its completion. |
/// | `name = "payments.charge"` | `module::function` | Identifies the operation; it is part of every stored key. See [Names](#names). |
/// | `skip(db, …)` | none | Leaves arguments out of the hash, and out of what `record_arguments` stores: connections, contexts. `self` is always left out. |
/// | `store = EXPR` | the installed handle | Calls through this handle, as in `store = self.idempotency`: an `Idempotency`, or a reference, an `Arc` or a `Box` of one. |
/// | `lease = "30s"` | 30 s | Lets another caller take over a claim that was not renewed for this long. The claim is renewed while the body runs. It may not be longer than `ttl`. |
/// | `wait = "10s"` | 10 s | Lets a duplicate wait this long for the running call, to get its result. `"0s"` refuses duplicates at once. |
/// | `errors = release` | `release` | An `Err` frees the key: the next call runs the body again. |
/// | `errors = keep` | | An `Err` is kept and replayed, like a result. See [Your error type](#your-error-type). |
/// | `errors = PATH` | | A function `fn(&E) -> bool` decides: `true` keeps the error, `false` frees the key. |
/// | `abandoned = rerun` | `rerun` | After a run that ended without an outcome (crash, panic, dropped future, lapsed lease), the next call runs the body again. |
/// | `abandoned = refuse` | | After such a run, every call gets `Error::Abandoned`, however long ago it was, also one whose policy is `rerun`, until an operator resolves the record or a function with `reconcile` finds out. |
/// | `abandoned = reconcile(PATH)` | | After such a run, an async function is asked whether it happened, before the body runs again. See [After a crash](#after-a-crash). |
/// | `settle_after = "1m"` | the lease | With `reconcile`: believes "not done" only of a run that has been abandoned for this long. |
/// | `max_attempts = N` | no limit | Runs a key at most this often, crashes included: then calls get `Error::Exhausted`. An expression of type `u32` over the arguments is possible. |
/// | `retry_after = "30s"` | none | Refuses to run a key again for this long after a run that failed or was abandoned, with a retryable `Error::Suspended`. A `Backoff` makes the pause grow: `retry_after = Backoff::exponential(first, longest)`. |
/// | `detach` | off | Runs the body on a task of its own, in the current Tokio runtime: a caller that goes away does not stop it. |
/// | `transaction = ARG` | none | Names the argument that is the caller's open SQL transaction, and writes the record in it. See [Transactions](#transactions). |
/// | `crate = ::PATH` | `::idempotent_runtime` | Names the runtime, for crates that re-export it. |
///
/// A duration is a string of whole numbers with the units `d`, `h`, `m`, `s` and `ms`, longest first (`"7d"`, `"1h30m"`, `"500ms"`),
/// or an expression of type `Duration` over the arguments.
///
/// # Names
///
/// Set `name` wherever a second run would cost something. Without it, the name is the path of the module and of the function: moving
/// or renaming the function changes the key of every record, and the next repeat of an older call runs the body again.
///
/// Methods need a `name`, and so do functions that are generic over types or constants, or take an `impl Trait`: they have no default
/// that is unique and stable. The macro cannot see everything: two associated functions of two types, or two functions inside two
/// functions, can have one default name. The second of them that a process calls is refused (`OperationError::NameTaken`), and
/// nothing is claimed. Two processes that each call only one of them are not noticed. A default name in a generic `impl`, or in a trait, is
/// refused at the first call (`OperationError::DefaultName`): each type has such a function. A name that is written out at two functions means that they answer for each other, which one event tells.
///
/// With a written `name`, a generic function, a function in a generic `impl`, and a trait's provided method are *one* operation for all
/// types: a call with one type gets the result of a call with another, and no event tells. Put what tells the types apart into the
/// key, as in `key = (N::NAME, order_id)`.
///
/// # Keys
///
/// ```
/// # use idempotent_runtime::{Error, idempotent};
/// # use serde::{Deserialize, Serialize};
/// #[derive(Serialize)]
/// struct Event { id: String, body: String }
///
/// #[idempotent(name = "events.handle", key = event.id)] // an expression; it moves nothing out of the arguments
/// async fn handle(event: Event) -> Result<String, Error> {
///     Ok(event.body)
/// }
///
/// #[idempotent(name = "events.handle_for", key = (tenant, event.id))] // a tuple
/// async fn handle_for(tenant: String, event: Event) -> Result<String, Error> {
///     Ok(tenant + &event.body)
/// }
///
/// #[idempotent(name = "events.acknowledge", key = "{tenant}/{event_id}")] // a template
/// async fn acknowledge(tenant: &str, event_id: u64) -> Result<(), Error> {
///     println!("{tenant}: {event_id}");
///     Ok(())
/// }
/// # fn main() {}
/// ```
///
/// Tuples and templates are encoded so that two different inputs never share a key: `("a:b", "c")` and `("a", "b:c")` differ. A key
/// that is `None` or empty, or has a part that is, is refused, because all calls without a key would share one record. So is a whole key,
/// or a whole hole of a template, that is an empty list or a struct without fields. A key has up to
/// 1,024 bytes as it is encoded (`max_key_len`). In a template, `{argument}` is replaced by the
/// argument, and `{{` and `}}` are braces. A key may use `?` and skipped arguments. It is evaluated before anything is claimed or moved.
///
/// Without `key`, two calls are the same if their arguments have the same hash. With a key, a call that reuses it with different
/// arguments gets `Error::Mismatch`. Equal means equal as serde writes it: a `Decimal` of 1.0 and one of 1.00, or one instant in two
/// time zones, are different arguments. Bring such values to one form before the call.
///
/// # Arguments
///
/// Arguments are hashed by name, in any order: moving one does not change the hash, renaming one does. A pattern counts as the
/// arguments that it binds: `Json(order): Json<Order>` is the argument `order`. A pattern that binds no name (`_`, `..`) cannot be
/// hashed, and is refused: name it, and list it in `skip(...)` if it does not belong to the request. An `&mut` argument must be
/// skipped, because a replay does not repeat what the body writes through it.
///
/// # Your error type
///
/// The function returns `Result<T, E>`, where `E` implements `From<idempotent_runtime::Error>`: the call itself can fail, for example
/// because a duplicate is still running. With [thiserror](https://docs.rs/thiserror), `#[from]` is enough:
///
/// ```
/// use idempotent_runtime::{Error, idempotent};
///
/// #[derive(Debug, thiserror::Error)]
/// enum PaymentError {
///     #[error("the card was declined")]
///     Declined,
///     #[error(transparent)]
///     Idempotency(#[from] Error),
/// }
///
/// #[idempotent(name = "payments.charge", key = order_id)]
/// async fn charge(order_id: &str, amount_cents: u64) -> Result<String, PaymentError> {
///     if amount_cents > 100_000 { Err(PaymentError::Declined) } else { Ok(order_id.to_owned()) }
/// }
/// # fn main() {}
/// ```
///
/// With `errors = keep` or `errors = PATH`, errors are stored, so `E` implements serde's traits as well. The library's own error is
/// never stored: `#[serde(skip)]` leaves its variant out, and an error that is of such a variant frees the key, as with `release`. An error
/// that is kept and would not come back the same is recorded as *done without a result*, and repeats get `Error::ResultNotKept`.
///
/// ```
/// use idempotent_runtime::{Error, idempotent};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Debug, thiserror::Error, Serialize, Deserialize)]
/// enum PaymentError {
///     #[error("the card was declined")]
///     Declined,
///     #[error("the bank is not available")]
///     BankUnavailable,
///     #[error(transparent)]
///     #[serde(skip)]
///     Idempotency(#[from] Error),
/// }
///
/// impl PaymentError {
///     /// A repeat gets this error again, instead of another try.
///     fn is_final(&self) -> bool {
///         matches!(self, Self::Declined)
///     }
/// }
///
/// #[idempotent(name = "payments.charge", key = order_id, errors = PaymentError::is_final)]
/// async fn charge(order_id: &str, amount_cents: u64) -> Result<String, PaymentError> {
///     if amount_cents > 100_000 { Err(PaymentError::Declined) } else { Ok(order_id.to_owned()) }
/// }
/// # fn main() {}
/// ```
///
/// `anyhow::Error` works with `errors = release`, the default. It cannot be stored, because it does not implement serde's traits.
/// Callers find the library's error with `downcast_ref`:
///
/// ```
/// use idempotent_runtime::{Error, Idempotency, idempotent, install};
///
/// #[idempotent(name = "mail.send", key = message_id)]
/// async fn send(message_id: &str, text: &str) -> anyhow::Result<usize> {
///     Ok(text.trim().len())
/// }
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> anyhow::Result<()> {
/// install(Idempotency::memory())?;
/// send("m-1", "hello").await?;
/// let error = send("m-1", "another text").await.unwrap_err();
/// assert!(matches!(error.downcast_ref(), Some(Error::Mismatch { .. })));
/// # Ok(()) }
/// ```
///
/// An error type of another crate (`std::io::Error`, `String`) cannot implement `From<idempotent_runtime::Error>`: Rust's orphan rule
/// forbids it. Wrap it in an enum of yours, as a variant beside `Idempotency(Error)`.
///
/// # Results
///
/// A result is stored as JSON, and only if the same value comes back from it: the JSON is read and written again, and compared. If it
/// differs (an untagged enum of which an earlier variant fits and writes less, a field that is written and not read, an `f64::NAN`), the call gets its
/// result, and repeats get `Error::ResultNotKept` instead of another value; an event tells it at once. The comparison cannot see what
/// serde does not write: which variant of an untagged enum it was where two of them write the same JSON, `#[serde(skip)]`, the nanoseconds of a time that is written in seconds, the digits that a decimal loses as a
/// float. A replay has them as serde reads them. Numbers that `serde_json` reads as text (its feature `arbitrary_precision`) are
/// stored to the digit, and count in keys and hashes as the numbers that they are without that feature. With that feature, which any
/// dependency may switch on, `serde_json` cannot read floats back in an internally tagged or untagged enum, or through
/// `#[serde(flatten)]`: on stores that are shared, such results are not kept, and an event tells it.
///
/// A type that writes a map in an order of its own, and reads it in another, comes back in that other order: JSON objects that differ
/// in their order alone count as the same.
///
/// # After a crash
///
/// A function can be killed at any point of its body. What then has happened outside, nobody knows but the outside. Three means help, and
/// they go together:
///
/// - `idempotent_runtime::step("charge", …)` inside the body is a recovery point: a later attempt gets its recorded value, and goes on behind it.
/// - `child_key` of `Execution::current()` is the same in every attempt. A system that takes an idempotency key recognises the repeat.
/// - `abandoned = reconcile(PATH)` asks whether an earlier run that vanished has happened, where the other system can be asked:
///
/// ```
/// use idempotent_runtime::{Error, Execution, Reconciled, idempotent};
/// # struct Bank;
/// # impl Bank {
/// #     async fn charge(&self, _: &str, cents: u64) -> Result<String, Error> { Ok(cents.to_string()) }
/// #     async fn find(&self, _: &str) -> Option<Option<String>> { None }
/// # }
///
/// #[idempotent(name = "payments.charge", key = order_id, skip(bank), abandoned = reconcile(find_charge), max_attempts = 5)]
/// async fn charge(bank: &Bank, order_id: &str, cents: u64) -> Result<String, Error> {
///     let run = Execution::current().expect("inside an idempotent function");
///     bank.charge(&run.child_key("charge"), cents).await
/// }
///
/// /// Gets the run, and then the same arguments.
/// async fn find_charge(run: &Execution, bank: &Bank, _order_id: &str, _cents: u64) -> Result<Reconciled<String>, Error> {
///     Ok(match bank.find(&run.child_key("charge")).await {
///         Some(Some(receipt)) => Reconciled::Done(receipt), // recorded and returned
///         Some(None) => Reconciled::NotDone,                // the body runs
///         None => Reconciled::Unknown,                      // a retryable `Error::Abandoned`; the next call asks again
///     })
/// }
/// # fn main() {}
/// ```
///
/// The function is asked in one call at a time, never after a run that returned an `Err`, and never in a first run. Arguments by value have to
/// be `Clone`. A key whose run vanished is held for it, however long: calls with another policy are refused meanwhile.
///
/// Whether a key is held is decided by the policy under which its run was begun. A run that was begun under `rerun` and vanished, as before a
/// deployment that brings `refuse`, does not hold its key: calls under `refuse` get `Error::Abandoned` for the `ttl` of that run, and after that
/// the body runs again.
///
/// `max_attempts` and `retry_after` count and pause runs in the record, so that they hold for all processes. A run counts from its claim on. With
/// one of them, an `Err` that is not kept leaves the record, so that other arguments are a mismatch. If the last run that is allowed vanished,
/// the key is held: it may have happened.
///
/// # Transactions
///
/// ```
/// # #[derive(Debug)] enum TransferError { Sql(sqlx::Error), Idempotency(Error) }
/// # use idempotent_runtime::Error;
/// # impl From<sqlx::Error> for TransferError { fn from(error: sqlx::Error) -> Self { Self::Sql(error) } }
/// # impl From<Error> for TransferError { fn from(error: Error) -> Self { Self::Idempotency(error) } }
/// use idempotent_runtime::{idempotent, in_transaction};
/// use sqlx::{PgPool, Postgres, Transaction};
///
/// #[idempotent(name = "accounts.deposit", key = id, ttl = "30d", transaction = tx)]
/// async fn deposit(tx: &mut Transaction<'_, Postgres>, id: &str, account: i64, cents: i64) -> Result<(), TransferError> {
///     sqlx::query("UPDATE accounts SET cents = cents + $1 WHERE id = $2").bind(cents).bind(account).execute(&mut **tx).await?;
///     Ok(())
/// }
///
/// async fn handle(pool: &PgPool, id: &str) -> Result<(), TransferError> {
///     // Begins, commits the deposit and its record or neither, and tries again where the database says so.
///     in_transaction(pool, |tx| Box::pin(deposit(tx.0, id, 17, 500))).await
/// }
/// # fn main() {}
/// ```
///
/// The argument is a `&mut sqlx::Transaction<'_, DB>`, or a `&mut PgConnection` or `&mut SqliteConnection` that is in a transaction. It
/// is never hashed. The store, the installed one or that of `store = …`, must be in the same database. What the body writes through the
/// argument takes effect exactly once: the database commits it together with the record, or not at all.
///
/// - A duplicate waits for the database's lock, up to `wait`. Then it gets the committed result, or runs if there is none.
/// - An `Err` rolls back what the body wrote; with `errors = release` it also rolls back the record. What the caller writes before and
///   after the call stays in the transaction. An `Err` that is kept is a record without effects, once the caller commits:
///   `in_transaction` does. With a transaction of your own, commit before you pass the error on: a `?` before the commit rolls the
///   record back, which an error event tells seconds later.
/// - An error of the store rolls back what the body wrote, too. If it is retryable (a serialization failure, a lost connection), begin
///   a new transaction and call again. Do the same after a `COMMIT` whose reply was lost.
/// - If the call is dropped or panics half-way, the database refuses to commit the transaction.
/// - The body must not end the transaction (`COMMIT`, `ROLLBACK`): what it writes afterwards would be outside it. It may set savepoints
///   and begin nested transactions of sqlx. Do not cancel a nested `begin` half-way (`timeout(…, tx.begin())`): sqlx 0.9 then rolls back
///   the whole transaction.
/// - On SQLite, the transaction keeps all others from writing to the file, and from renewing their leases: keep it shorter than two thirds
///   of the shortest lease there. The call overwrites the connection's `last_insert_rowid()` and `changes()`.
/// - `lease`, `abandoned`, `max_attempts`, `retry_after` and `detach` have no meaning in a transaction, and are refused. So is a `step` in
///   the body: the transaction has all of it or nothing.
///
/// # Requirements
///
/// - Calls run on Tokio, with its timers. With paused time (`start_paused`), calls through Redis, PostgreSQL and SQLite time out at
///   once: tests with paused time use the embedded store.
/// - The function is an `async fn`: free, in an `impl`, a provided method of a trait, or what `#[async_trait]` makes of one of these.
///   `#[tracing::instrument]` and other attributes can stand above or below.
/// - It returns `Result<T, E>`, under any alias. `T` implements serde's `Serialize` and `DeserializeOwned`; for `E`, see
///   [Your error type](#your-error-type).
/// - Hashed arguments implement `Serialize`.
/// - With `detach`, the function borrows nothing, and its future is `Send`.
///
/// Everything else stays as written: signature, documentation, generics, receivers, visibility. The future is `Send` if the plain
/// function's future and the result are.
///
/// # Expansion
///
/// ```text
/// async fn charge(order_id: &str, amount_cents: u64) -> Result<String, Error> {
///     let call = /* name and options, hash of the arguments, key */;
///     let body = pin!(Some(async move { /* the function's own body */ }));
///     /* claims the key, runs the body or replays its result, stores the result */ run(call, body).await
/// }
/// ```
///
/// The macro generates nothing beside the function.
///
/// # Cancel safety
///
/// Dropping the future of a call that waits for a duplicate ends the wait and nothing else. Dropping the future of a call whose body
/// runs stops the body, as with any async function, and marks the claim as abandoned: `abandoned` decides what the next call does. With
/// `detach`, the body runs to its end. With `transaction`, nothing is left to abandon: see [Transactions](#transactions).
#[proc_macro_attribute]
pub fn idempotent(args: TokenStream, item: TokenStream) -> TokenStream {
    let file = module_of(&Span::call_site().file());
    expand::expand(args.into(), &item.into(), file.as_deref()).into()
}

/// The module that a source file most likely is: the file's name, or the folder's name for `mod.rs`.
fn module_of(file: &str) -> Option<String> {
    let path = Path::new(file);
    let name = match path.file_stem()?.to_str()? {
        "mod" => path.parent()?.file_name()?.to_str()?.to_owned(),
        "lib" | "main" => std::env::var("CARGO_CRATE_NAME").ok()?,
        other => other.to_owned(),
    };
    Some(name.replace('-', "_"))
}
