//! A process that relays the outbox of a PostgreSQL database, for tests that kill some.
//!
//! Argument: the database's URL. The broker is a table of the same database, `arrived`, to which each batch is added by one
//! statement that commits by itself. Writes `ready`, and relays until its standard input ends.

use std::{io::Write as _, time::Duration};

use idempotent_runtime::outbox::{OutboxMessage, PublishError, Publisher, Relay};
use sqlx::{PgPool, postgres::PgPoolOptions};
use tokio::io::AsyncReadExt as _;

struct Table(PgPool);

impl Publisher for Table {
    async fn publish(&self, batch: &[OutboxMessage]) -> Vec<Result<(), PublishError>> {
        let column = |of: fn(&OutboxMessage) -> String| batch.iter().map(of).collect::<Vec<_>>();
        let insert = sqlx::query(
            "INSERT INTO arrived (id, key, payload) SELECT * FROM unnest($1::text[], $2::text[], $3::text[])",
        )
        .bind(column(|message| message.id.clone()))
        .bind(column(|message| message.key.clone().unwrap_or_default()))
        .bind(column(|message| String::from_utf8_lossy(&message.payload).into_owned()));
        let answer = insert.execute(&self.0).await;
        // So that a kill often comes between the broker's answer and the removal.
        tokio::time::sleep(Duration::from_millis(rand::random_range(0..10))).await;
        let answer = |_| match &answer {
            Ok(_) => Ok(()),
            Err(error) => Err(PublishError::Retry(error.to_string().into())),
        };
        batch.iter().map(answer).collect()
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::args().nth(1).ok_or("the database's URL")?;
    let pool = PgPoolOptions::new().max_connections(6).connect(&url).await?;
    let relay = Relay::new(pool.clone(), Table(pool)).batch(10).lease(Duration::from_millis(600));
    let mut stdout = std::io::stdout();
    writeln!(stdout, "ready")?;
    stdout.flush()?;
    let shutdown = async {
        let _ = tokio::io::stdin().read_to_end(&mut Vec::new()).await;
    };
    relay.run(shutdown).await;
    Ok(())
}
