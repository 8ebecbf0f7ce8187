//! The service: a function that charges a card once, and a handler that calls it. This is the file to copy from.
//!
//! This file is compiled twice: with `Db` as `sqlx::Postgres`, and as `sqlx::Sqlite`. In your service, write the one that you use.

use axum::{
    Form, Json,
    extract::{
        Extension, Query, State,
        rejection::{FormRejection, QueryRejection},
    },
    response::{IntoResponse, Response},
};
use idempotent_runtime::{Execution, idempotent, tower::IdempotencyKey};
use sqlx::{Pool, Transaction, query_as};

use super::Db;
use crate::{
    accounts::Account,
    card_network,
    stripe::{Charge, NewCharge, Page, Refused, list},
};

const INSERT: &str = "
    INSERT INTO charges (id, account, amount, currency, description, authorization_code) VALUES ($1, $2, $3, $4, $5, $6)
    RETURNING id, amount, currency, description, authorization_code, created";
const LIST: &str = "
    SELECT id, amount, currency, description, authorization_code, created FROM charges
    WHERE account = $1 AND (CAST($2 AS text) IS NULL OR number < (SELECT number FROM charges WHERE id = $2))
    ORDER BY number DESC LIMIT $3";

/// Enters a charge into the books, once for each key of an account: row and record are committed together.
///
/// The layer around the handler answers repeats before they reach this function. But if the process was killed, the layer does not
/// know whether the run had committed. The next run finds out here, even if it comes with another authorization code.
#[idempotent(name = "charges.enter", key = (account, key), ttl = "24h", skip(authorization_code), transaction = tx)]
async fn enter(
    tx: &mut Transaction<'_, Db>,
    account: &str,
    key: &str,
    new: &NewCharge,
    authorization_code: &str,
) -> Result<Charge, Refused> {
    let charge = query_as(INSERT)
        .bind(format!("ch_{:024x}", rand::random::<u128>() >> 32))
        .bind(account)
        .bind(new.amount)
        .bind(&new.currency)
        .bind(&new.description)
        .bind(authorization_code);
    Ok(charge.fetch_one(&mut **tx).await?)
}

/// `POST /v1/charges`.
pub(crate) async fn create(
    State(pool): State<Pool<Db>>,
    Extension(Account(account)): Extension<Account>,
    key: Option<IdempotencyKey>,
    form: Result<Form<NewCharge>, FormRejection>,
) -> Result<Response, Refused> {
    let Form(new) = form.map_err(|error| Refused::Request(error.body_text()))?;
    new.check()?;
    // A request without a key is a charge of its own.
    let key = key.map_or_else(|| format!("{:032x}", rand::random::<u128>()), |key| key.as_str().to_owned());
    // The card network is outside our database. It gets a key as well, the same one in every attempt.
    let authorize = Execution::current().map_or_else(|| key.clone(), |run| run.child_key("authorize"));
    let authorization_code = card_network::authorize(&authorize, &new).await?;
    let mut tx = pool.begin().await?;
    let charge = enter(&mut tx, account, &key, &new, &authorization_code).await?;
    tx.commit().await?;
    Ok(Json(charge.object()).into_response())
}

/// `GET /v1/charges`.
pub(crate) async fn index(
    State(pool): State<Pool<Db>>,
    Extension(Account(account)): Extension<Account>,
    page: Result<Query<Page>, QueryRejection>,
) -> Result<Response, Refused> {
    let Query(page) = page.map_err(|error| Refused::Request(error.body_text()))?;
    page.check()?;
    let limit = page.limit();
    let charges = query_as(LIST).bind(account).bind(&page.starting_after).bind(i64::try_from(limit + 1).unwrap_or(101));
    Ok(list(&charges.fetch_all(&pool).await?, limit))
}
