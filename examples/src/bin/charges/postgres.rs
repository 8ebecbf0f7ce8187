//! Charges in PostgreSQL.

use std::{str::FromStr as _, time::Duration};

use axum::{Router, routing::get};
use sqlx::{
    Postgres,
    postgres::{PgConnectOptions, PgPoolOptions},
    raw_sql,
};

use crate::Failure;

#[path = "on_each_database/service.rs"]
mod service;

type Db = Postgres;

const TABLE: &str = "
    CREATE TABLE IF NOT EXISTS charges (
        number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        id text NOT NULL,
        account text NOT NULL,
        amount bigint NOT NULL,
        currency text NOT NULL,
        description text,
        authorization_code text NOT NULL,
        created bigint NOT NULL DEFAULT extract(epoch FROM now())
    )";

pub(crate) async fn routes(url: &str) -> Result<Router, Failure> {
    // sqlx's error text may quote the URL, and with it a password.
    let options = PgConnectOptions::from_str(url).map_err(|_| "--store is not a PostgreSQL URL")?;
    let pool = PgPoolOptions::new().max_connections(8).acquire_timeout(Duration::from_secs(5));
    let pool = pool.connect_with(options).await?;
    raw_sql(TABLE).execute(&pool).await?;
    Ok(Router::new().route("/v1/charges", get(service::index).post(service::create)).with_state(pool))
}
