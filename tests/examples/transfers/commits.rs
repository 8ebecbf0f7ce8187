//! Commits whose replies are lost.

use std::time::Duration;

use idempotent_tests::{
    database::Database,
    postgres_database::PostgresDatabase,
    proxy::{Fault, Proxy},
};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tokio::time::{Instant, sleep};

use super::{program::check, run_time, seed, tables::Tables as _, workers::Workers};

#[tokio::test]
async fn commits_whose_replies_are_lost_are_made_once() {
    let seed = seed("commits");
    let database = PostgresDatabase::create().await;
    let proxy = Proxy::start(database.address()).await;
    let url = database.url_at(proxy.address());
    let mut random = StdRng::seed_from_u64(seed);
    let workers = Workers::start(&url, seed, 2);
    let (counts, cuts) =
        tokio::join!(workers.work(run_time(), None, &mut random), cut(&proxy, StdRng::seed_from_u64(!seed)));
    println!("{cuts} connections were cut: {counts:?}");
    let database = Database::Postgres(database);
    check(&database.url());
    database.assert_exact(counts.transfers, counts.made).await;
    let (in_doubt, applied) = (counts.told["commits_in_doubt"], counts.told["commits_applied"]);
    assert!(applied > 0 && in_doubt > applied, "{applied} of {in_doubt} commits in doubt were applied");
}

/// Cuts one connection after the other, before a request or before a reply, and now and then all of them.
async fn cut(proxy: &Proxy, mut random: StdRng) -> u64 {
    let (deadline, mut cuts) = (Instant::now() + run_time(), 0);
    while Instant::now() < deadline {
        let fault = [Fault::CutBeforeReply, Fault::CutBeforeRequest, Fault::CutAfterRequest][random.random_range(0..3)];
        proxy.set_after(random.random_range(0..150), fault);
        sleep(Duration::from_millis(random.random_range(5..=30))).await;
        cuts += u64::from(proxy.fault() == Fault::None);
        if random.random_range(0..50) == 0 {
            proxy.cut();
        }
    }
    proxy.set(Fault::None);
    cuts
}
