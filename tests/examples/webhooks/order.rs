//! Checks how long records are kept, and sends events out of order.

use std::sync::Arc;

use rand::{SeedableRng as _, rngs::StdRng, seq::SliceRandom as _};
use tokio::task::JoinSet;

use crate::{
    deliveries::{ENDPOINTS, event, object},
    program::Program,
    tables::Tables as _,
};
use idempotent_tests::{database::Database, on_each_database};

on_each_database!(
    c06_records_are_kept_as_long_as_senders_may_deliver_again,
    c06_an_older_event_does_not_overwrite_a_newer_one,
    c06_events_in_any_order_end_with_the_newest,
);

const DAY: i64 = 24 * 60 * 60;

async fn c06_records_are_kept_as_long_as_senders_may_deliver_again(database: Database) {
    let program = Program::start(&database.url(), &[]).await;
    for endpoint in ENDPOINTS {
        program.send(&event(endpoint, "id-1", 1)).await.assert_done(false);
    }
    database.wait_until_worked_off().await;
    let left = match database {
        Database::Postgres(_) => "extract(epoch FROM expires_at - clock_timestamp())::bigint",
        Database::Sqlite(_) => "expires_at / 1000 - unixepoch()",
    };
    for (operation, days) in
        [("webhooks.stripe", 30), ("webhooks.github", 7), ("webhooks.standard", 3), ("webhooks.accept", 3)]
    {
        let seconds = format!("SELECT min({left}) FROM idempotent_records WHERE operation = '{operation}'");
        let seconds = database.number(&seconds).await;
        assert!(seconds >= days * DAY - 60, "{operation}: {seconds} s");
    }
}

async fn c06_an_older_event_does_not_overwrite_a_newer_one(database: Database) {
    let program = Program::start(&database.url(), &[]).await;
    for endpoint in ENDPOINTS {
        let (newer, older) = (event(endpoint, "id-newer", 17), event(endpoint, "id-older", 16));
        program.send(&newer).await.assert_done(false);
        database.wait_until_worked_off().await;
        for replayed in [false, true] {
            let reply = program.send(&older).await;
            // What is accepted first turns out to be older later.
            let (status, outcome) = if endpoint == ENDPOINTS[3] { (202, "accepted") } else { (200, "outdated") };
            reply.assert(status, outcome, replayed);
            database.wait_until_worked_off().await;
            assert!(database.has_status(object(endpoint), "s17").await, "{endpoint}");
        }
        program.send(&newer).await.assert_done(true);
    }
    // The older ones are noted all the same, once.
    assert_eq!(database.done().await, 8);
}

async fn c06_events_in_any_order_end_with_the_newest(database: Database) {
    let seed = rand::random::<u64>();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let program = Arc::new(Program::start(&database.url(), &["--workers", "3"]).await);
    for endpoint in ENDPOINTS {
        // Each twice.
        let mut versions: Vec<_> = (1..=20).chain(1..=20).collect();
        versions.shuffle(&mut random);
        let mut senders = JoinSet::new();
        for version in versions {
            let program = Arc::clone(&program);
            senders.spawn(async move {
                let delivery = event(endpoint, &format!("id-{version}"), version);
                let reply = program.send(&delivery).await;
                assert!(reply.status.is_success(), "{reply:?}");
            });
        }
        while let Some(sender) = senders.join_next().await {
            sender.unwrap();
        }
        database.wait_until_worked_off().await;
        assert!(database.has_status(object(endpoint), "s20").await, "{endpoint}");
    }
    assert_eq!(database.done().await, 80);
}
