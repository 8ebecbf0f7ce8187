//! The functions that generated code calls: for the macro of the same version, and for nothing else.
//!
//! `#[inline(never)]` keeps one copy per type instead of one per call site.

use std::{future::Future, ops::ControlFlow, pin::Pin, sync::Arc};

use crate::{
    Idempotency,
    bounds::{AnyResult, Argument, Body, CarriesErrors, Fits, GivenTwice, Key, Stored},
    engine::{Prepared, shared::Shared},
    error::Error,
    execution::Execution,
    install,
    operation::{KeepErrorsIf, Operation},
    reconcile::{self, Reconciled},
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

/// Starts the `count` arguments of a call of this function through this handle, by default the installed one. `inside` is the
/// compiler's name of something inside the function.
#[must_use]
pub fn arguments<'h>(
    function: &Function,
    inside: &'static str,
    handle: Option<&'h Idempotency>,
    count: usize,
) -> Arguments<'h> {
    let shared = function.check(inside).and_then(|()| match handle {
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
        Ok(Prepared { shared, key, request, request_id: None })
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

/// The run that has to find out first what became of the one before.
#[must_use]
pub fn to_reconcile() -> Option<Execution> {
    reconcile::begin()
}

/// An argument for the function that finds out.
pub fn given<T: GivenTwice>(argument: &T) -> T {
    argument.clone()
}

/// The answer of the call, after what was found out; `None` if the body is to run.
pub fn reconciled<R: AnyResult>(run: &Execution, found: Result<Reconciled<R::Value>, R::Error>) -> Option<R>
where
    R::Error: CarriesErrors,
{
    reconcile::end(run, found).map(R::from_result)
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
