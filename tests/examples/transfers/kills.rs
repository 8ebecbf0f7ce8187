//! Workers that are killed again and again, and so is the server.

use std::time::Duration;

use idempotent_tests::{database::Database, postgres_database::PostgresDatabase, postgres_server::PostgresServer};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tokio::time::{Instant, sleep};

use super::{
    program::check,
    run_time, seed,
    tables::Tables as _,
    workers::{Counts, Workers},
};

const WORKERS: usize = 4;
/// A worker is killed after each of these pauses, in ms.
const KILL_MS: (u64, u64) = (20, 800);

async fn assert_books(database: &Database, counts: &Counts) {
    println!("{counts:?}");
    check(&database.url());
    database.assert_exact(counts.transfers, counts.made).await;
    assert!(counts.kills >= 10, "{counts:?}");
}

#[tokio::test]
async fn sqlite_survives_the_kill_of_workers() {
    let seed = seed("sqlite");
    let database = Database::sqlite().await;
    let workers = Workers::start(&database.url(), seed, WORKERS);
    let counts = workers.work(run_time(), Some(KILL_MS), &mut StdRng::seed_from_u64(seed)).await;
    assert_eq!(counts.unreachable, 0);
    assert_books(&database, &counts).await;
}

#[tokio::test]
async fn postgres_survives_the_kill_of_workers_and_of_the_server() {
    let seed = seed("postgres");
    let mut database = PostgresDatabase::on_its_own_server().await;
    let workers = Workers::start(&database.url(), seed, WORKERS);
    let mut random = StdRng::seed_from_u64(seed);
    let (counts, server_kills) = tokio::join!(
        workers.work(run_time(), Some(KILL_MS), &mut random),
        kill_server(database.server(), StdRng::seed_from_u64(!seed)),
    );
    println!("the server was killed {server_kills} times");
    assert!(server_kills >= 3);
    assert_books(&Database::Postgres(database), &counts).await;
}

async fn kill_server(server: &mut PostgresServer, mut random: StdRng) -> u64 {
    let (deadline, mut kills) = (Instant::now() + run_time(), 0);
    loop {
        sleep(Duration::from_millis(random.random_range(500..=3_000))).await;
        if Instant::now() >= deadline {
            return kills;
        }
        server.kill();
        kills += 1;
        // The last backends of the killed server notice meanwhile.
        sleep(Duration::from_millis(random.random_range(0..=300))).await;
        server.restart().await;
    }
}
