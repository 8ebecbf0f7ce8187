//! One call: claim, run, complete.

use std::{future::Future, pin::Pin};

use serde::{Serialize, de::DeserializeOwned};

use crate::{
    error::{ArgumentsError, Error, KeyError},
    fingerprint::Fingerprint,
    idempotency::Idempotency,
    key::{self, KeyWriter},
    operation::{ErrorPolicy, Operation},
    record::RecordKey,
};

/// A call that is ready to be claimed.
pub(crate) struct Call<P> {
    handle: Idempotency,
    operation: Operation<P>,
    key: RecordKey,
    fingerprint: Fingerprint,
}

impl<P> Call<P> {
    /// Hashes and encodes; nothing is claimed yet.
    pub(crate) fn new(
        handle: &Idempotency,
        operation: Operation<P>,
        fingerprint: Result<Fingerprint, ArgumentsError>,
        key: impl FnOnce(&mut KeyWriter, &Fingerprint) -> Result<(), KeyError>,
    ) -> Result<Self, Error> {
        let fingerprint = fingerprint?;
        let key = key::record_key(&operation.name, handle.max_key_len, |writer| key(writer, &fingerprint))?;
        Ok(Self { handle: handle.clone(), operation, key, fingerprint })
    }

    /// Runs the body, or answers for it. The body is only polled if it is this call's to run.
    pub(crate) async fn run<T, E, F>(self, body: Pin<&mut F>) -> Result<T, E>
    where
        F: Future<Output = Result<T, E>>,
        T: Serialize + DeserializeOwned,
        E: From<Error>,
        P: ErrorPolicy<E>,
    {
        let _ = (&self.handle, &self.operation, &self.key, &self.fingerprint);
        body.await
    }

    /// The same on a task of its own once the key is claimed, so that dropping this future does not stop the body.
    pub(crate) async fn run_detached<T, E, F>(self, body: F) -> Result<T, E>
    where
        F: Future<Output = Result<T, E>> + Send + 'static,
        T: Serialize + DeserializeOwned + Send + 'static,
        E: From<Error> + Send + 'static,
        P: ErrorPolicy<E>,
    {
        self.run(std::pin::pin!(body)).await
    }
}
