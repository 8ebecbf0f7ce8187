//! The `#[idempotent]` attribute of `idempotent-runtime`, which re-exports it: depend on that crate, not on this one.

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
/// use idempotent_runtime::{Error, idempotent};
///
/// #[idempotent(key = order_id, ttl = "24h")]
/// async fn charge(order_id: &str, amount_cents: u64) -> Result<String, Error> {
///     Ok(format!("charged {amount_cents} for {order_id}"))
/// }
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Error> {
/// let first = charge("order-17", 500).await?;
/// assert_eq!(charge("order-17", 500).await?, first); // not run again
/// assert!(matches!(charge("order-17", 999).await, Err(Error::Mismatch { .. }))); // same key, other request
/// # Ok(()) }
/// ```
///
/// # Options
///
/// | option | default | meaning |
/// |---|---|---|
/// | `key = EXPR` | the hash of all arguments | What identifies the call: an expression over the arguments, or a template. See [Keys](#keys). |
/// | `ttl = "24h"` | 24 h | How long a finished result is kept, counted from completion. |
/// | `name = "payments.charge"` | `module::function` | The stable identity of the operation, part of every stored key: renaming it forgets its results. See [Names](#names). |
/// | `skip(db, …)` | none | Arguments that do not belong to the request: connections, contexts. They are left out of the hash, and of what `record_arguments` stores. `self` always is. |
/// | `store = EXPR` | the installed handle | The `Idempotency` to use: `store = self.idempotency`. A reference to one, an `Arc` or a `Box` of one will do. |
/// | `lease = "30s"` | 30 s | How long a claim lives without a sign of life. It is renewed while the body runs, and is independent of `ttl`. |
/// | `wait = "10s"` | 10 s | How long a duplicate waits for the running call and then gets its result. `"0s"` refuses at once. |
/// | `errors = release` | `release` | An `Err` frees the key, so that a retry runs the body again. |
/// | `errors = keep` | | An `Err` is kept, and replayed like a result. |
/// | `errors = PATH` | | A function `fn(&E) -> bool` decides: `true` keeps the error. |
/// | `abandoned = rerun` | `rerun` | A claim whose owner vanished (crash, panic, dropped future, lapsed lease) is run again by the next call. |
/// | `abandoned = refuse` | | It is not run again: calls get `Error::Abandoned` until an operator resolves it. |
/// | `detach` | off | The body runs on a task of its own (in a Tokio runtime), so that a caller that goes away does not stop it half-way. |
/// | `transaction = ARG` | none | The argument that is the caller's open SQL transaction: the record is written in it. See [Transactions](#transactions). |
/// | `crate = ::PATH` | `::idempotent_runtime` | Where the runtime is, for crates that re-export it. |
///
/// Durations are whole numbers with the units `d`, `h`, `m`, `s` and `ms`, longest first (`"7d"`, `"1h30m"`, `"500ms"`), or
/// expressions of type `Duration` over the arguments and whatever else is in scope.
///
/// # Keys
///
/// ```
/// # use idempotent_runtime::{Error, idempotent};
/// # use serde::{Deserialize, Serialize};
/// #[derive(Serialize)]
/// struct Event { id: String, body: String }
///
/// #[idempotent(key = event.id)] // an expression: nothing is moved out of the arguments
/// async fn handle(event: Event) -> Result<String, Error> {
///     Ok(event.body)
/// }
///
/// #[idempotent(key = (tenant, event.id))] // a tuple
/// async fn handle_for(tenant: String, event: Event) -> Result<String, Error> {
///     Ok(tenant + &event.body)
/// }
///
/// #[idempotent(key = "{tenant}/{event_id}")] // a template over arguments
/// async fn acknowledge(tenant: &str, event_id: u64) -> Result<(), Error> {
///     println!("{tenant}: {event_id}");
///     Ok(())
/// }
/// # fn main() {}
/// ```
///
/// Tuples and templates are encoded so that no two different inputs share a key. A key that is `None` is refused, since all
/// calls without a key would share one record. In a template, `{{` and `}}` are braces; a hole holds the name of an argument.
/// The key may use `?`, and skipped arguments. It is evaluated before anything is claimed or moved.
///
/// Without `key`, calls are the same if their arguments hash to the same value. With it, a call that has the key and not the
/// arguments of an earlier one gets `Error::Mismatch`.
///
/// # Arguments
///
/// Arguments are hashed by name, in any order: moving one does not change the hash, renaming one does. A pattern counts as
/// the arguments that it binds, so `Json(order): Json<Order>` is the argument `order`. What binds nothing (`_`, `..`) cannot
/// be hashed, and so is refused: name it, and list it in `skip(...)` if it does not belong to the request. An `&mut` argument
/// has to be skipped, because a replay does not repeat what was changed through it.
///
/// # Transactions
///
/// ```
/// # use idempotent_runtime::{Error, idempotent};
/// # #[derive(Debug)] enum TransferError { Sql(sqlx::Error), Idempotency(Error) }
/// # impl From<sqlx::Error> for TransferError { fn from(error: sqlx::Error) -> Self { Self::Sql(error) } }
/// # impl From<Error> for TransferError { fn from(error: Error) -> Self { Self::Idempotency(error) } }
/// use sqlx::{PgPool, Postgres, Transaction};
///
/// #[idempotent(key = id, ttl = "30d", transaction = tx)]
/// async fn deposit(tx: &mut Transaction<'_, Postgres>, id: &str, account: i64, cents: i64) -> Result<(), TransferError> {
///     sqlx::query("UPDATE accounts SET cents = cents + $1 WHERE id = $2").bind(cents).bind(account).execute(&mut **tx).await?;
///     Ok(())
/// }
///
/// async fn handle(pool: &PgPool, id: &str) -> Result<(), TransferError> {
///     let mut tx = pool.begin().await?;
///     deposit(&mut tx, id, 17, 500).await?;
///     tx.commit().await?; // the deposit and its record, or neither
///     Ok(())
/// }
/// # fn main() {}
/// ```
///
/// The installed store, or that of `store = …`, has to be in the same database. The argument is a
/// `&mut sqlx::Transaction<'_, DB>`, or a `&mut PgConnection` or `&mut SqliteConnection` that is in a transaction; it is never
/// hashed. What the body writes through it is exactly once: committed if and only if the record is.
///
/// - A duplicate waits on the database's lock, up to `wait`, and then gets the committed result, or runs if there is none.
/// - An `Err` takes back what the body wrote, and with `errors = release` the record; what the caller does before and after in
///   the transaction is not touched. An `Err` that is kept is a record without effects, once the caller commits.
/// - Errors of the store come after what the body wrote was taken back. Where they are retryable (a serialization failure, a
///   lost connection), begin a new transaction and call again. So after a `COMMIT` whose answer was lost.
/// - Where the call is dropped or panics half-way, the database refuses to commit the transaction.
/// - The body must not end the transaction (`COMMIT`, `ROLLBACK`): what it writes after that is not in it. It may set
///   savepoints, and begin nested transactions of sqlx; but one that is given up while it begins
///   (`timeout(…, tx.begin())`) makes sqlx 0.9 roll back the whole transaction.
/// - `lease`, `abandoned` and `detach` have no meaning in a transaction, and are refused.
///
/// # Names
///
/// The default name is the path of the module and the name of the function. Methods need a `name`, and so do functions that are
/// generic over types or constants, because no default would be unique and stable. An associated function without `self`
/// cannot be told from a free function here, unless its signature mentions `Self`: give it a name too.
///
/// # What the function needs
///
/// - It is an `async fn`, free or in an `impl`; also a provided method of a trait, and what `#[async_trait]` makes of any of
///   these. `#[tracing::instrument]` and other attributes can stand above or below.
/// - It returns `Result<T, E>` under any alias. `T` implements serde's `Serialize` and `DeserializeOwned`, `E` implements
///   `From<idempotent_runtime::Error>`; with `errors` other than `release`, `E` implements the serde traits too.
/// - Hashed arguments implement `Serialize`.
/// - With `detach`, it borrows nothing, and is `Send`.
///
/// Everything else is as written: signature, documentation, generics, receivers, visibility. The future is `Send` if that of
/// the plain function is and its result is.
///
/// # What it becomes
///
/// ```text
/// async fn charge(order_id: &str, amount_cents: u64) -> Result<String, Error> {
///     let call = /* name and options, hash of the arguments, key */;
///     let body = pin!(Some(async move { /* the function's own body */ }));
///     /* claims the key, runs the body or does not, stores the result, answers */ run(call, body).await
/// }
/// ```
///
/// The function itself is all that is generated: nothing stands beside it.
///
/// # Cancel safety
///
/// Dropping the future of a call that waits for a duplicate gives up the wait and nothing else. Dropping it while its body runs
/// stops the body, as with any async function, and marks the claim as abandoned: `abandoned` decides what the next call does.
/// With `detach` the body goes on to its end. With `transaction` there is nothing to abandon: see [Transactions](#transactions).
#[proc_macro_attribute]
pub fn idempotent(args: TokenStream, item: TokenStream) -> TokenStream {
    let file = module_of(&Span::call_site().file());
    expand::expand(args.into(), &item.into(), file.as_deref()).into()
}

/// The module that a file most likely is: its name, or its folder's for `mod.rs`.
fn module_of(file: &str) -> Option<String> {
    let path = Path::new(file);
    let name = match path.file_stem()?.to_str()? {
        "mod" => path.parent()?.file_name()?.to_str()?.to_owned(),
        "lib" | "main" => std::env::var("CARGO_CRATE_NAME").ok()?,
        other => other.to_owned(),
    };
    Some(name.replace('-', "_"))
}
