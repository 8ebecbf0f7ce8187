//! Code that the attribute writes trips no lint. `cargo clippy --all-targets -- -D warnings` compiles this file.
#![warn(
    clippy::pedantic,
    clippy::nursery,
    let_underscore_drop,
    unreachable_pub,
    unused,
    rust_2018_idioms,
    trivial_casts,
    trivial_numeric_casts,
    unused_lifetimes,
    unused_qualifications,
    unused_results,
    variant_size_differences,
    single_use_lifetimes,
    elided_lifetimes_in_paths,
    explicit_outlives_requirements,
    redundant_lifetimes,
    unit_bindings,
    unused_import_braces
)]

use std::{borrow::Cow, sync::Arc, time::Duration};

use async_trait::async_trait;
use idempotent_runtime::{Error, Idempotency, idempotent};
use serde::{Deserialize, Serialize};
use sqlx::{Connection as _, PgConnection, Sqlite, Transaction};
use tracing::instrument;

#[derive(Debug, Serialize, Deserialize)]
enum PaymentError {
    Declined,
    Idempotency(String),
}

impl From<Error> for PaymentError {
    fn from(error: Error) -> Self {
        Self::Idempotency(error.to_string())
    }
}

impl PaymentError {
    const fn is_final(&self) -> bool {
        matches!(self, Self::Declined)
    }
}

#[idempotent]
async fn one_line(id: u64) -> Result<u64, Error> {
    Ok(id)
}

#[idempotent(key = (tenant, order_id), ttl = "7d", lease = "1m", wait = "0s", errors = keep, abandoned = refuse)]
async fn all_options(tenant: &str, order_id: String, amount: u64) -> Result<u64, PaymentError> {
    std::future::ready(()).await;
    Ok(amount + tenant.len() as u64 + order_id.len() as u64)
}

#[idempotent(key = id, transaction = tx)]
async fn in_transaction(tx: &mut Transaction<'_, Sqlite>, id: &str, cents: i64) -> Result<String, Error> {
    drop(tx.begin().await);
    Ok(format!("{id}: {cents}"))
}

#[idempotent(key = id, transaction = _tx, errors = PaymentError::is_final)]
async fn without_effects(_tx: &mut PgConnection, id: u64) -> Result<u64, PaymentError> {
    if id == 0 {
        return Err(PaymentError::Declined);
    }
    Ok(id)
}

#[idempotent(key = order_id, errors = PaymentError::is_final, ttl = Duration::from_mins(1))]
async fn predicate(order_id: &str) -> Result<usize, PaymentError> {
    if order_id.is_empty() {
        return Err(PaymentError::Declined);
    }
    Ok(order_id.len())
}

#[idempotent(key = "{_unused}:{order_id}", skip(context))]
async fn template(_unused: u8, order_id: &str, context: &Idempotency) -> Result<Cow<'static, str>, Error> {
    drop(context.clone());
    Ok(order_id.to_owned().into())
}

#[idempotent(detach)]
async fn detached(order_id: String, _guard: u8) -> Result<String, Error> {
    Ok(order_id)
}

#[idempotent]
async fn diverges(order_id: &str) -> Result<(), Error> {
    panic!("{order_id}")
}

#[idempotent]
async fn items_first(order_id: &str) -> Result<usize, Error> {
    const FEE: usize = 1;
    const fn len(text: &str) -> usize {
        text.len()
    }
    Ok(len(order_id) + FEE)
}

#[idempotent(name = "lints.generic", key = value)]
async fn generic<'a, T>(value: T, text: Cow<'a, str>) -> Result<Cow<'a, str>, Error>
where
    T: Serialize + Send + Sync,
{
    drop(value);
    Ok(text)
}

#[instrument(err)]
#[idempotent(key = id)]
async fn traced(id: u64) -> Result<u64, Error> {
    Ok(id)
}

#[idempotent(key = id)]
#[instrument(err)]
async fn traced_inside(id: u64) -> Result<u64, Error> {
    Ok(id)
}

struct Shop {
    id: u64,
    idempotency: Arc<Idempotency>,
}

impl Shop {
    #[idempotent(name = "lints.charge", store = self.idempotency, key = (self.id, order_id))]
    async fn charge_mut(&mut self, order_id: &str) -> Result<u64, Error> {
        self.id += order_id.len() as u64;
        Ok(self.id)
    }
}

#[async_trait]
trait Charges {
    async fn charge(&self, order_id: String, pair: (u8, u8)) -> Result<u8, Error>;
}

#[async_trait]
impl Charges for Shop {
    #[idempotent(name = "lints.async_trait", key = (self.id, order_id))]
    async fn charge(&self, order_id: String, (left, right): (u8, u8)) -> Result<u8, Error> {
        drop(order_id);
        Ok(left + right)
    }
}

/// The user's own mistakes are still reported, in the key as in the body.
#[idempotent(key = id)]
#[expect(clippy::items_after_statements, unused_variables, reason = "they are the point")]
async fn own_lints(id: String) -> Result<String, Error> {
    let unused = 1;
    const LATE: u8 = 1;
    let _ = LATE;
    Ok(id)
}

#[test]
fn annotated_functions_compile_without_warnings() {
    fn futures() -> impl Send {
        let shop = || Shop { id: 1, idempotency: Arc::new(Idempotency::memory()) };
        let trait_object: Box<dyn Charges + Send + Sync> = Box::new(shop());
        (
            (one_line(1), all_options("", String::new(), 1), predicate(""), detached(String::new(), 1), diverges("")),
            (items_first(""), generic(1, "".into()), traced(1), traced_inside(1), own_lints(String::new())),
            async move { trait_object.charge(String::new(), (1, 2)).await },
            async move { shop().charge_mut("").await },
            async { template(1, "", &Idempotency::memory()).await },
        )
    }
    fn in_transactions<'a>(sqlite: &'a mut Transaction<'_, Sqlite>, postgres: &'a mut PgConnection) -> impl Send + 'a {
        (in_transaction(sqlite, "", 1), without_effects(postgres, 1))
    }
    drop((futures(), in_transactions));
}
