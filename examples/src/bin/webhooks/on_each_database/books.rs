//! The state of this service: the events that it has processed, and each object as of its newest event.

use serde::Serialize;
use sqlx::{FromRow, Pool, Transaction, query, query_as, raw_sql};

use super::{Db, TABLES};
use crate::answer::{HookError, Outcome};

/// No constraint of the table refuses an event twice: the record of the call does.
const NOTE: &str = "INSERT INTO done (endpoint, event_id, object, status) VALUES ($1, $2, $3, $4)";

/// An older event does not overwrite a newer one. An event of the same second does, because Stripe and GitHub count seconds, and
/// the event that arrives later is more often the newer one.
const SET: &str = "
    INSERT INTO objects (id, status, version) VALUES ($1, $2, $3)
    ON CONFLICT (id) DO UPDATE SET status = excluded.status, version = excluded.version
    WHERE excluded.version >= objects.version";

/// A change of an object, according to an event.
pub(crate) struct Change<'e> {
    pub(crate) endpoint: &'e str,
    pub(crate) event_id: &'e str,
    pub(crate) object: &'e str,
    pub(crate) status: &'e str,
    /// A number of the sender's that rises with each change of the object.
    pub(crate) version: i64,
}

pub(crate) async fn apply(tx: &mut Transaction<'_, Db>, change: Change<'_>) -> Result<Outcome, HookError> {
    let Change { endpoint, event_id, object, status, version } = change;
    query(NOTE).bind(endpoint).bind(event_id).bind(object).bind(status).execute(&mut **tx).await?;
    let set = query(SET).bind(object).bind(status).bind(version).execute(&mut **tx).await?;
    Ok(if set.rows_affected() == 1 { Outcome::Applied } else { Outcome::Outdated })
}

/// The state as JSON, at most 100 rows of each table.
#[derive(Serialize)]
pub(crate) struct Overview {
    objects: Vec<Object>,
    done: Vec<Done>,
    inbox: Vec<Waiting>,
}

#[derive(Serialize, FromRow)]
struct Object {
    id: String,
    status: String,
}

#[derive(Serialize, FromRow)]
struct Done {
    endpoint: String,
    event_id: String,
}

#[derive(Serialize, FromRow)]
struct Waiting {
    endpoint: String,
    delivery_id: String,
    attempts: i64,
}

pub(crate) async fn overview(pool: &Pool<Db>) -> sqlx::Result<Overview> {
    let objects = query_as("SELECT id, status FROM objects ORDER BY id LIMIT 100");
    let done = query_as("SELECT endpoint, event_id FROM done ORDER BY id DESC LIMIT 100");
    let inbox = query_as("SELECT endpoint, delivery_id, attempts FROM inbox ORDER BY id LIMIT 100");
    Ok(Overview {
        objects: objects.fetch_all(pool).await?,
        done: done.fetch_all(pool).await?,
        inbox: inbox.fetch_all(pool).await?,
    })
}

/// Creates the tables, unless they exist.
pub(crate) async fn set_up(pool: &Pool<Db>) -> sqlx::Result<()> {
    // Of several processes that create them at the same time, some get an error, and find the tables when they try again.
    if raw_sql(TABLES).execute(pool).await.is_err() {
        raw_sql(TABLES).execute(pool).await?;
    }
    Ok(())
}
