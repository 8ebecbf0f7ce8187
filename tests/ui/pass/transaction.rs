//! `transaction = …` on every shape of a function.

#![deny(warnings)]

use idempotent_runtime::{Error, Idempotency, idempotent};
use sqlx::{PgConnection, Postgres, Sqlite, SqliteConnection, Transaction};

type Pg<'t> = Transaction<'t, Postgres>;

#[idempotent(key = id, transaction = tx)]
async fn plain(tx: &mut Transaction<'_, Postgres>, id: u64) -> Result<u64, Error> {
    reborrowed(tx).await;
    reborrowed(tx).await;
    Ok(id)
}

#[idempotent(key = id, transaction = tx)]
async fn sqlite(tx: &mut Transaction<'_, Sqlite>, id: &str) -> Result<String, Error> {
    let _: &mut SqliteConnection = tx;
    Ok(id.to_owned())
}

#[idempotent(key = id, transaction = connection)]
async fn connection(connection: &mut PgConnection, id: &str) -> Result<String, Error> {
    let _ = connection;
    Ok(id.to_owned())
}

#[idempotent(key = id, transaction = r#type, errors = keep)]
async fn raw(r#type: &mut Pg<'_>, id: &str) -> Result<String, Stored> {
    let _ = r#type;
    Ok(id.to_owned())
}

#[idempotent(key = id, transaction = tx, skip(mutable))]
async fn mutable<'t>(mut tx: &'t mut Pg<'t>, mutable: &mut u8, id: String) -> Result<String, Error> {
    *mutable += 1;
    let _ = &tx;
    let moved = tx;
    tx = moved;
    let _ = tx;
    Ok(id)
}

#[idempotent(key = id, name = "generic", transaction = tx)]
async fn generic<D: Serialize + Sync>(tx: &mut Pg<'_>, id: u64, data: &D) -> Result<u64, Error> {
    let _ = (tx, data);
    if id == 0 {
        return Ok(1);
    }
    Err(Error::NotInstalled)?
}

#[derive(Debug, Serialize, Deserialize)]
struct Stored;

impl From<Error> for Stored {
    fn from(_: Error) -> Self {
        Self
    }
}

async fn reborrowed(_: &mut PgConnection) {}

struct Service {
    idempotency: Idempotency,
}

impl Service {
    #[idempotent(key = id, name = "method", transaction = tx, store = self.idempotency)]
    async fn method(&self, tx: &mut Pg<'_>, id: u64) -> Result<u64, Error> {
        plain(tx, id).await
    }
}

#[async_trait::async_trait]
trait Trait {
    async fn call(&self, tx: &mut Pg<'_>, id: u64) -> Result<u64, Error>;
}

#[async_trait::async_trait]
impl Trait for Service {
    #[idempotent(key = id, name = "trait", transaction = tx, store = self.idempotency)]
    async fn call(&self, tx: &mut Pg<'_>, id: u64) -> Result<u64, Error> {
        self.method(tx, id).await
    }
}

macro_rules! declared {
    ($name:ident, $argument:ident: $ty:ty) => {
        #[idempotent(key = id, transaction = $argument)]
        async fn $name($argument: $ty, id: u64) -> Result<u64, Error> {
            let _ = $argument;
            Ok(id)
        }
    };
}

declared!(declared, connection: &mut Pg<'_>);

#[tracing::instrument(skip_all)]
#[idempotent(key = id, transaction = tx)]
async fn instrumented(tx: &mut Pg<'_>, id: u64) -> Result<u64, Error> {
    plain(tx, id).await
}

/// Arguments with the names of the generated code.
#[idempotent(key = (call, body, __idempotent_call), transaction = __idempotent_transaction)]
async fn names(
    __idempotent_transaction: &mut Pg<'_>,
    call: u8,
    body: u8,
    begun: u8,
    __idempotent_call: u8,
    __idempotent_begun: u8,
) -> Result<u8, Error> {
    reborrowed(__idempotent_transaction).await;
    Ok(call + body + begun + __idempotent_call + __idempotent_begun)
}

#[idempotent(key = id, name = "open", transaction = tx)]
async fn any<X: OpenTransaction + ?Sized>(tx: &mut X, id: u64) -> Result<u64, Error> {
    let _ = tx.connection();
    Ok(id)
}

#[idempotent(key = id, transaction = tx)]
async fn object(tx: &mut (dyn OpenTransaction + '_), id: u64) -> Result<u64, Error> {
    any(tx, id).await
}

#[idempotent(key = id, name = "some", transaction = tx)]
async fn some(tx: &mut impl OpenTransaction, id: u64) -> Result<u64, Error> {
    any(tx, id).await
}

#[idempotent(key = id, transaction = tx)]
async fn lifetimes<'a, 't: 'a>(tx: &'a mut Transaction<'t, Postgres>, id: &'a str) -> Result<usize, Error> {
    let mut nested = tx.begin().await.map_err(|_| Error::NotInstalled)?;
    reborrowed(&mut nested).await;
    let mut run = async || reborrowed(&mut nested).await;
    run().await;
    Ok(id.len())
}

#[idempotent(key = id, transaction = tx)]
async fn unused(tx: &mut Pg<'_>, id: u64) -> Result<(), Error> {
    let _ = (tx, id);
    Ok(())
}

#[idempotent(key = id, transaction = _tx)]
async fn unnamed(_tx: &mut Pg<'_>, id: u64) -> Result<u64, Error> {
    Ok(id)
}

#[idempotent(key = id, transaction = tx)]
async fn configured(
    #[cfg(not(windows))] tx: &mut Pg<'_>,
    #[cfg(windows)] tx: &mut Transaction<'_, Sqlite>,
    id: u64,
) -> Result<u64, Error> {
    reborrowed(tx).await;
    Ok(id)
}

#[async_trait::async_trait]
pub trait Above {
    #[idempotent(key = id, name = "provided", transaction = tx)]
    async fn provided(&mut self, tx: &mut Pg<'_>, id: u64) -> Result<u64, Error>
    where
        Self: Send,
    {
        plain(tx, id).await
    }
}

#[idempotent(key = id, transaction = tx, errors = keep)]
#[tracing::instrument(skip(tx), err(Debug))]
async fn converted(tx: &mut Pg<'_>, id: &str) -> Result<u64, Stored> {
    let id = id.parse::<u64>()?;
    Ok(plain(tx, id).await?)
}

impl From<std::num::ParseIntError> for Stored {
    fn from(_: std::num::ParseIntError) -> Self {
        Self
    }
}

use idempotent_runtime::store::transactional::OpenTransaction;
use serde::{Deserialize, Serialize};
use sqlx::Connection as _;

fn is_send<T: Send>(_: T) {}

fn futures(service: &Service, tx: &mut Pg<'_>, other: &mut Transaction<'_, Sqlite>) {
    is_send(plain(tx, 1));
    is_send(sqlite(other, "a"));
    is_send(connection(tx, "a"));
    is_send(raw(tx, "a"));
    is_send(generic(tx, 1, &"a"));
    is_send(service.method(tx, 1));
    is_send(service.call(tx, 1));
    is_send(declared(tx, 1));
    is_send(instrumented(tx, 1));
    is_send(names(tx, 1, 1, 1, 1, 1));
    is_send(any(tx, 1));
    is_send(object(tx, 1));
    is_send(some(tx, 1));
    is_send(lifetimes(tx, "a"));
    is_send(unused(tx, 1));
    is_send(unnamed(tx, 1));
    is_send(configured(tx, 1));
    is_send(converted(tx, "a"));
}

fn main() {
    let _ = (futures, mutable);
}
