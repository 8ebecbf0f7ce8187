//! Relays that are processes, and are killed.

use std::process::Command;

use idempotent_runtime::outbox::{Outbox, Outgoing};
use idempotent_tests::{process::Process, wait::wait_for};
use rand::RngExt as _;
use sqlx::Row as _;
use tokio::time::{Duration, sleep};

use super::support::Target;

const KEYS: usize = 10;
const MESSAGES: usize = 40;
const RELAYS: usize = 4;

async fn start(target: &Target) -> Process {
    let mut process = Process::talk(Command::new(env!("CARGO_BIN_EXE_outbox_relay")).arg(target.database.url()));
    assert_eq!(process.line().await.as_deref(), Some("ready"));
    process
}

async fn write(target: &Target, number: usize) {
    let mut tx = target.begin().await;
    for key in 0..KEYS {
        let (key, payload) = (format!("key-{key}"), format!("{number:03}"));
        let outgoing = Outgoing { key: Some(&key), ..Outgoing::new("t", payload.as_bytes()) };
        Outbox::new().publish(&mut tx, outgoing).await.unwrap();
    }
    tx.commit().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t21_four_processes_are_killed() {
    let target = Target::create().await;
    target
        .execute("CREATE TABLE arrived (n bigserial PRIMARY KEY, id text NOT NULL, key text NOT NULL, payload text)")
        .await;
    let mut relays = Vec::new();
    for _ in 0..RELAYS {
        relays.push(start(&target).await);
    }
    for number in 0..MESSAGES {
        write(&target, number).await;
        sleep(Duration::from_millis(rand::rng().random_range(0..80))).await;
        if number % 4 == 0 {
            let killed = rand::rng().random_range(0..RELAYS);
            relays[killed].kill();
            relays[killed] = start(&target).await;
        }
        if number == MESSAGES / 2 {
            // One is stopped for longer than its lease, and goes on.
            relays[0].signal("-STOP");
            sleep(Duration::from_secs(1)).await;
            relays[0].signal("-CONT");
        }
    }
    let rows = "SELECT count(*) FROM idempotent_records_outbox";
    wait_for("an empty table", async || target.count(rows).await == 0).await;
    for relay in &mut relays {
        relay.hang_up();
        assert!(relay.wait().await.success());
    }
    assert_eq!(target.count("SELECT count(*) FROM idempotent_records_relay").await, 0, "the lease is given back");

    let first = "SELECT key, string_agg(payload, ' ' ORDER BY n) FROM (
        SELECT id, min(n) AS n, min(key) AS key, min(payload) AS payload FROM arrived GROUP BY id
    ) AS first GROUP BY key";
    let expected: Vec<String> = (0..MESSAGES).map(|n| format!("{n:03}")).collect();
    let rows = sqlx::query(first).fetch_all(&target.pool).await.unwrap();
    assert_eq!(rows.len(), KEYS);
    for row in rows {
        assert_eq!(row.get::<String, _>(1), expected.join(" "), "{}", row.get::<String, _>(0));
    }
}
