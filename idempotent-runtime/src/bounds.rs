//! What `#[idempotent]` asks of a function's types: serde's traits and `From<Error>`, each under a name of its own, so that a
//! compile error can say what to write. Each is implemented for all types that have those; write serde's in bounds.

use std::future::Future;

use serde::{Serialize, de::DeserializeOwned};

use crate::{error::Error, operation::ErrorPolicy};

/// The body of an idempotent function.
#[diagnostic::on_unimplemented(
    message = "an idempotent function returns a `Result`",
    label = "not a `Result`",
    note = "help: return `Result<T, idempotent_runtime::Error>`, or a `Result` with an error type of your own"
)]
pub trait Body<T, E>: Future<Output = Result<T, E>> {}

#[diagnostic::do_not_recommend]
impl<T, E, F: Future<Output = Result<T, E>>> Body<T, E> for F {}

/// A result under any alias: `R` of a function with `errors = PATH` or `abandoned = reconcile(PATH)`.
pub trait AnyResult {
    /// Its value.
    type Value;
    /// Its error.
    type Error;
    /// The result under its own name.
    fn from_result(result: Result<Self::Value, Self::Error>) -> Self;
}

impl<T, E> AnyResult for Result<T, E> {
    type Value = T;
    type Error = E;

    fn from_result(result: Self) -> Self {
        result
    }
}

/// An argument that the function of `abandoned = reconcile(PATH)` gets as well.
#[diagnostic::on_unimplemented(
    message = "an argument of type `{Self}` cannot be given to the `reconcile` function and to the body",
    label = "`{Self}` must implement `Clone`",
    note = "help: `#[derive(Clone)]` on the type, or take the argument by reference"
)]
pub trait GivenTwice: Clone {}

#[diagnostic::do_not_recommend]
impl<T: Clone> GivenTwice for T {}

/// An argument that can be hashed.
#[diagnostic::on_unimplemented(
    message = "an argument of type `{Self}` cannot be hashed",
    label = "hashed, so its type must implement `serde::Serialize`",
    note = "help: if it does not belong to the request, name the argument in `skip(...)`",
    note = "help: otherwise `#[derive(serde::Serialize)]` on the type; a type of another crate may have a feature `serde`, a type parameter needs the bound `serde::Serialize`"
)]
pub trait Argument: Serialize {}

#[diagnostic::do_not_recommend]
impl<T: Serialize + ?Sized> Argument for T {}

/// A key, or a part of one.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a key",
    label = "a key must implement `serde::Serialize`",
    note = "help: name what identifies the call, as in `key = order.id`",
    note = "help: or `#[derive(serde::Serialize)]` on the type; a type of another crate may have a feature `serde`, a type parameter needs the bound `serde::Serialize`"
)]
pub trait Key: Serialize {}

#[diagnostic::do_not_recommend]
impl<T: Serialize + ?Sized> Key for T {}

/// A value that can be stored and replayed.
#[diagnostic::on_unimplemented(
    message = "a result of type `{Self}` cannot be stored and replayed",
    label = "`{Self}` must implement `serde::Serialize` and `serde::Deserialize`, without borrowing",
    note = "help: `#[derive(serde::Serialize, serde::Deserialize)]` on the type; a type of another crate may have a feature `serde`, a type parameter needs the bounds `serde::Serialize + serde::de::DeserializeOwned`"
)]
pub trait Stored: Serialize + DeserializeOwned {}

#[diagnostic::do_not_recommend]
impl<T: Serialize + DeserializeOwned> Stored for T {}

/// An error that can say what this library has to say.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot report that a duplicate is still running, or that the store failed",
    label = "`{Self}` must implement `From<idempotent_runtime::Error>`",
    note = "help: in an enum of yours, write a variant `Idempotency(idempotent_runtime::Error)` and the `From` for it, or `Idempotency(#[from] idempotent_runtime::Error)` with thiserror",
    note = "help: if `{Self}` is not a type of yours, return an enum with that variant and another for `{Self}`; the attribute's documentation has one under \"Your error type\""
)]
pub trait CarriesErrors: From<Error> {}

#[diagnostic::do_not_recommend]
impl<E: From<Error>> CarriesErrors for E {}

/// A policy that can handle errors of type `E`.
#[diagnostic::on_unimplemented(
    message = "an error of type `{E}` cannot be stored and replayed",
    label = "with `errors = …` other than `release`, `{E}` must implement `serde::Serialize` and `serde::Deserialize`",
    note = "help: `#[derive(serde::Serialize, serde::Deserialize)]` on the type, with `#[serde(skip)]` on the variant that has an `idempotent_runtime::Error`; or remove `errors`"
)]
pub trait Fits<E>: ErrorPolicy<E> {}

#[diagnostic::do_not_recommend]
impl<E, P: ErrorPolicy<E>> Fits<E> for P {}
