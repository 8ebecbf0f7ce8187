//! What the attribute's code calls: for the macro of the same version, and for nothing else.

use std::{future::Future, marker::PhantomData, pin::Pin};

use serde::{Serialize, de::DeserializeOwned};

use crate::{
    Idempotency, engine,
    error::{Error, KeyError},
    fingerprint, install,
    key::KeyWriter,
    operation::{ErrorPolicy, Operation, ReleaseErrors, StoreErrors, StoreErrorsIf},
};

/// An operation with this name and the default policies.
pub const fn operation(name: &'static str) -> Operation {
    Operation::with_name(std::borrow::Cow::Borrowed(name))
}

/// `errors = PATH`, for a function whose result is `R`.
pub fn store_errors_if<R: AnyResult>(
    operation: Operation,
    keep: fn(&R::Error) -> bool,
) -> Operation<StoreErrorsIf<R::Error>> {
    operation.store_errors_if(keep)
}

/// `store = EXPR`: a place for references to coerce.
pub const fn handle(handle: &Idempotency) -> Option<&Idempotency> {
    Some(handle)
}

/// The hashed arguments.
pub struct Arguments(fingerprint::Arguments);

impl Arguments {
    /// Starts a list of `count`.
    #[must_use]
    pub fn new(count: usize) -> Self {
        Self(fingerprint::Arguments::new(count))
    }

    /// Adds one. Names come in ascending order, each once.
    pub fn argument<T: Argument + ?Sized>(&mut self, name: &'static str, value: &T) {
        self.0.argument(name, value);
    }
}

/// A call that is ready to be claimed.
pub struct Call<P>(engine::Call<P>);

/// A call that cannot be claimed, and what to tell its caller.
pub struct Failed<P>(Error, PhantomData<P>);

/// A call with the key `key`.
pub fn call<P, K: Key + ?Sized>(
    handle: Option<&Idempotency>,
    operation: Operation<P>,
    arguments: Arguments,
    key: &K,
) -> Result<Call<P>, Failed<P>> {
    new(handle, operation, arguments, |writer, _| writer.value(key))
}

/// A call whose key is the hash of its arguments.
pub fn call_by_hash<P>(
    handle: Option<&Idempotency>,
    operation: Operation<P>,
    arguments: Arguments,
) -> Result<Call<P>, Failed<P>> {
    new(handle, operation, arguments, KeyWriter::fingerprint)
}

/// A call whose key is what `template` writes.
pub fn call_by_template<P>(
    handle: Option<&Idempotency>,
    operation: Operation<P>,
    arguments: Arguments,
    template: impl FnOnce(&mut KeyWriter) -> Result<(), KeyError>,
) -> Result<Call<P>, Failed<P>> {
    new(handle, operation, arguments, |writer, _| template(writer))
}

/// Writes the value of a template's hole.
pub fn hole<K: Key + ?Sized>(writer: &mut KeyWriter, value: &K) -> Result<(), KeyError> {
    writer.hole(value)
}

fn new<P>(
    handle: Option<&Idempotency>,
    operation: Operation<P>,
    arguments: Arguments,
    key: impl FnOnce(&mut KeyWriter, &fingerprint::Fingerprint) -> Result<(), KeyError>,
) -> Result<Call<P>, Failed<P>> {
    let installed;
    let handle = match handle {
        Some(handle) => handle,
        None => {
            installed = install::installed().map_err(Failed::from)?;
            &installed
        }
    };
    engine::Call::new(handle, operation, arguments.0.finish(), key).map(Call).map_err(Failed::from)
}

impl<P> From<Error> for Failed<P> {
    fn from(error: Error) -> Self {
        Self(error, PhantomData)
    }
}

/// The result of a call that could not be claimed.
pub fn fail<R: Outcome<P>, P>(failed: Failed<P>) -> R {
    R::failed(failed.0)
}

/// Runs the body, or answers for it.
pub fn run<R, P, F>(call: Call<P>, body: Pin<&mut Option<F>>) -> impl Future<Output = R>
where
    R: Outcome<P>,
    F: Future<Output = R>,
{
    R::run(call, body)
}

/// The same on a task of its own.
pub fn run_detached<R, P, F>(call: Call<P>, body: F) -> impl Future<Output = R>
where
    R: DetachedOutcome<P>,
    F: Future<Output = R> + Send + 'static,
{
    R::run_detached(call, body)
}

/// The result of an idempotent function: a `Result`, under any name.
#[diagnostic::on_unimplemented(
    message = "an idempotent function returns a `Result`, not `{Self}`",
    label = "not a `Result`",
    note = "help: `Result<{Self}, idempotent_runtime::Error>`, or an error type of your own"
)]
pub trait AnyResult {
    /// Its error.
    type Error;
}

impl<T, E> AnyResult for Result<T, E> {
    type Error = E;
}

/// A result that can be stored and replayed under the policy `P`.
#[diagnostic::on_unimplemented(
    message = "an idempotent function returns a `Result`, not `{Self}`",
    label = "not a `Result`",
    note = "help: `Result<{Self}, idempotent_runtime::Error>`, or an error type of your own"
)]
pub trait Outcome<P>: Sized {
    /// The result of a call that could not be claimed.
    fn failed(error: Error) -> Self;
    /// Runs the body, or answers for it.
    fn run<F: Future<Output = Self>>(call: Call<P>, body: Pin<&mut Option<F>>) -> impl Future<Output = Self>;
}

impl<T: Stored, E: CarriesErrors, P: Fits<E>> Outcome<P> for Result<T, E> {
    fn failed(error: Error) -> Self {
        Err(E::from(error))
    }

    fn run<F: Future<Output = Self>>(call: Call<P>, body: Pin<&mut Option<F>>) -> impl Future<Output = Self> {
        call.0.run(body)
    }
}

/// An [`Outcome`] that can come from another task.
pub trait DetachedOutcome<P>: Outcome<P> {
    /// The same on a task of its own.
    fn run_detached<F>(call: Call<P>, body: F) -> impl Future<Output = Self>
    where
        F: Future<Output = Self> + Send + 'static;
}

impl<T: Stored + Send + 'static, E: CarriesErrors + Send + 'static, P: Fits<E>> DetachedOutcome<P> for Result<T, E> {
    fn run_detached<F>(call: Call<P>, body: F) -> impl Future<Output = Self>
    where
        F: Future<Output = Self> + Send + 'static,
    {
        call.0.run_detached(body)
    }
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

/// An error that can be stored and replayed.
#[diagnostic::on_unimplemented(
    message = "an error of type `{Self}` cannot be stored and replayed",
    label = "with `errors = …` other than `release`, `{Self}` must implement `serde::Serialize` and `serde::Deserialize`",
    note = "help: `#[derive(serde::Serialize, serde::Deserialize)]` on the type, or remove `errors`"
)]
pub trait StoredError: Serialize + DeserializeOwned {}

#[diagnostic::do_not_recommend]
impl<E: Serialize + DeserializeOwned> StoredError for E {}

/// A policy that can handle errors of type `E`.
pub trait Fits<E>: ErrorPolicy<E> {}

impl<E> Fits<E> for ReleaseErrors {}
impl<E: StoredError> Fits<E> for StoreErrors {}
impl<E: StoredError + 'static> Fits<E> for StoreErrorsIf<E> {}
