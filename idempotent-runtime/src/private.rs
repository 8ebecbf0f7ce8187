//! The functions that generated code calls: for the macro of the same version, and for nothing else.
//!
//! `#[inline(never)]` keeps one copy per type instead of one per call site.

use std::{future::Future, ops::ControlFlow, pin::Pin, sync::Arc};

use serde::{Serialize, de::DeserializeOwned};

use crate::{
    Idempotency,
    engine::{Prepared, shared::Shared},
    error::Error,
    install,
    operation::{ErrorPolicy, KeepErrorsIf, Operation},
    request::{
        arguments,
        error::KeyError,
        fingerprint::Fingerprint,
        key::{self, KeyWriter},
    },
    store::transactional::{Connection, OpenTransaction},
};

pub use crate::{
    engine::{Begun, Call},
    functions::Function,
    operation::OnAbandoned,
};

/// An operation with this name and the default policies.
pub const fn operation(name: &'static str) -> Operation {
    Operation::from_static(name)
}

/// Keeps the errors that `errors = PATH` chooses, for a function whose result is `R`.
pub fn keep_errors_if<R: AnyResult>(
    operation: Operation,
    keep: fn(&R::Error) -> bool,
) -> Operation<KeepErrorsIf<R::Error>> {
    operation.keep_errors_if(keep)
}

/// Takes the handle of `store = EXPR`, so that references coerce.
#[must_use]
pub const fn handle(handle: &Idempotency) -> Option<&Idempotency> {
    Some(handle)
}

/// The arguments of a call, and what the calls through its handle share.
pub struct Arguments<'h> {
    shared: Result<&'h Arc<Shared>, Error>,
    arguments: arguments::Arguments,
}

/// Starts the `count` arguments of a call of this function through this handle, by default the installed one.
#[must_use]
pub fn arguments<'h>(function: &Function, handle: Option<&'h Idempotency>, count: usize) -> Arguments<'h> {
    let shared = function.check().and_then(|()| match handle {
        Some(handle) => Ok(&handle.shared),
        None => install::installed().map(|handle| &handle.shared),
    });
    let recorded_len = shared.as_ref().ok().and_then(|shared| shared.limits.recorded_len());
    Arguments { shared, arguments: arguments::Arguments::new(count, recorded_len) }
}

/// Adds an argument to the hash. Names come in ascending order, each once.
#[inline(never)]
pub fn argument<T: Argument + ?Sized>(arguments: &mut Arguments<'_>, name: &'static str, value: &T) {
    arguments.arguments.argument(name, value);
}

/// A call with the key `key`.
#[inline(never)]
pub fn call<P, K: Key + ?Sized>(operation: Operation<P>, arguments: Arguments<'_>, key: &K) -> Call<P> {
    prepare(operation, arguments, |writer, _| writer.value(key))
}

/// A call whose key is the hash of its arguments.
#[inline(never)]
pub fn call_by_hash<P>(operation: Operation<P>, arguments: Arguments<'_>) -> Call<P> {
    prepare(operation, arguments, KeyWriter::fingerprint)
}

/// A call whose key is the text that `template` writes.
pub fn call_by_template<P>(
    operation: Operation<P>,
    arguments: Arguments<'_>,
    template: impl FnOnce(&mut KeyWriter) -> Result<(), KeyError>,
) -> Call<P> {
    prepare(operation, arguments, |writer, _| template(writer))
}

/// Ends the arguments and writes the key, which may be their hash.
fn prepare<P>(
    operation: Operation<P>,
    Arguments { shared, arguments }: Arguments<'_>,
    write_key: impl FnOnce(&mut KeyWriter, &Fingerprint) -> Result<(), KeyError>,
) -> Call<P> {
    let prepared = shared.and_then(|shared| {
        let request = arguments.finish()?;
        let key = key::record_key(&operation.name, shared.limits.max_key_len, |writer| {
            write_key(writer, &request.fingerprint)
        })?;
        Ok(Prepared { shared, key, request })
    });
    Call::new(operation, prepared)
}

/// Writes literal text of a template.
pub fn literal(writer: &mut KeyWriter, text: &str) -> Result<(), KeyError> {
    writer.literal(text)
}

/// Writes the value of a template's hole.
#[inline(never)]
pub fn hole<K: Key + ?Sized>(writer: &mut KeyWriter, value: &K) -> Result<(), KeyError> {
    writer.hole(value)
}

/// Answers a call. Its body is polled only if it is this call's to run.
pub fn run<T, E, P, F>(call: Call<P>, body: Pin<&mut Option<F>>) -> impl Future<Output = F::Output>
where
    F: Body<T, E>,
    T: Stored,
    E: CarriesErrors,
    P: Fits<E>,
{
    call.run(body)
}

/// Answers a call. Its body runs on a task of its own.
pub fn run_detached<T, E, P, F>(call: Call<P>, body: F) -> impl Future<Output = F::Output>
where
    F: Body<T, E> + Send + 'static,
    T: Stored + Send + 'static,
    E: CarriesErrors + Send + 'static,
    P: Fits<E>,
{
    call.run_detached(body)
}

/// The argument that `transaction = …` names.
pub struct Transaction<'t, X: ?Sized> {
    transaction: &'t mut X,
    connection: fn(&mut X) -> Connection<'_>,
}

/// Takes the argument, so that its type is checked where the argument is underlined.
#[inline(never)]
pub fn transaction<X: OpenTransaction + ?Sized>(transaction: &mut X) -> Transaction<'_, X> {
    Transaction { transaction, connection: X::connection }
}

/// Claims the key in the caller's transaction: `Break` with the answer, `Continue` if the body may run.
pub async fn begin<X, T, E, P>(
    call: Call<P>,
    transaction: Transaction<'_, X>,
) -> ControlFlow<Result<T, E>, Begun<'_, X, T, E, P>>
where
    X: ?Sized,
    T: Stored,
    E: CarriesErrors,
    P: Fits<E>,
{
    let Transaction { transaction, connection } = transaction;
    call.begin(transaction, connection).await
}

/// The body of an idempotent function.
#[diagnostic::on_unimplemented(
    message = "an idempotent function returns a `Result`",
    label = "not a `Result`",
    note = "help: return `Result<T, idempotent_runtime::Error>`, or a `Result` with an error type of your own"
)]
pub trait Body<T, E>: Future<Output = Result<T, E>> {}

#[diagnostic::do_not_recommend]
impl<T, E, F: Future<Output = Result<T, E>>> Body<T, E> for F {}

/// A result that has an error: `R` of `errors = PATH`.
pub trait AnyResult {
    /// Its error.
    type Error;
}

impl<T, E> AnyResult for Result<T, E> {
    type Error = E;
}

/// An argument that can be hashed.
#[diagnostic::on_unimplemented(
    message = "an argument of type `{Self}` cannot be hashed",
    label = "hashed, so its type must implement `serde::Serialize`",
    note = "help: `#[derive(serde::Serialize)]` on the type; or, if it does not belong to the request, name the argument in `skip(...)`"
)]
pub trait Argument: Serialize {}

#[diagnostic::do_not_recommend]
impl<T: Serialize + ?Sized> Argument for T {}

/// A key, or a part of one.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a key",
    label = "a key must implement `serde::Serialize`",
    note = "help: name what identifies the call, as in `key = order.id`; or `#[derive(serde::Serialize)]` on the type"
)]
pub trait Key: Serialize {}

#[diagnostic::do_not_recommend]
impl<T: Serialize + ?Sized> Key for T {}

/// A value that can be stored and replayed.
#[diagnostic::on_unimplemented(
    message = "a result of type `{Self}` cannot be stored and replayed",
    label = "`{Self}` must implement `serde::Serialize` and `serde::Deserialize`, without borrowing",
    note = "help: `#[derive(serde::Serialize, serde::Deserialize)]` on the type"
)]
pub trait Stored: Serialize + DeserializeOwned {}

#[diagnostic::do_not_recommend]
impl<T: Serialize + DeserializeOwned> Stored for T {}

/// An error that can say what this library has to say.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot report that a duplicate is still running, or that the store failed",
    label = "`{Self}` must implement `From<idempotent_runtime::Error>`",
    note = "help: a variant `Idempotency(idempotent_runtime::Error)` and `impl From<idempotent_runtime::Error> for {Self}`, or `#[from]` with thiserror"
)]
pub trait CarriesErrors: From<Error> {}

#[diagnostic::do_not_recommend]
impl<E: From<Error>> CarriesErrors for E {}

/// A policy that can handle errors of type `E`.
#[diagnostic::on_unimplemented(
    message = "an error of type `{E}` cannot be stored and replayed",
    label = "with `errors = …` other than `release`, `{E}` must implement `serde::Serialize` and `serde::Deserialize`",
    note = "help: `#[derive(serde::Serialize, serde::Deserialize)]` on the type, or remove `errors`"
)]
pub trait Fits<E>: ErrorPolicy<E> {}

#[diagnostic::do_not_recommend]
impl<E, P: ErrorPolicy<E>> Fits<E> for P {}
