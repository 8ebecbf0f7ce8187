//! The senders' own libraries.

use std::path::Path;

use idempotent_tests::{database::Database, on_each_database, python::python};
use tokio::process::Command;

use crate::{
    deliveries::{STANDARD_KEY, STRIPE_SECRET, standard_secret},
    program::Program,
    tables::Tables as _,
};

on_each_database!(c01_signed_by_the_reference_libraries);

/// The reference library of Standard Webhooks, and Stripe's, sign each event twice, and once with another secret.
async fn c01_signed_by_the_reference_libraries(database: Database) {
    let program = Program::start(&database.url(), &[]).await;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/examples/webhooks/senders.py");
    let packages = ["standardwebhooks==1.1.0", "stripe==16.1.0"];
    let sender = tokio::task::spawn_blocking(move || python(&script, &packages)).await.unwrap();
    let sender = Command::from(sender)
        .args([&program.address, STRIPE_SECRET, &standard_secret(STANDARD_KEY)])
        .output()
        .await
        .unwrap();
    let output = String::from_utf8(sender.stdout).unwrap();
    assert!(sender.status.success(), "{output}\n{}", String::from_utf8_lossy(&sender.stderr));
    let answers: Vec<_> = output.lines().collect();
    assert_eq!(
        answers,
        [
            "/hooks/stripe 200 applied False",
            "/hooks/stripe 200 applied True",
            "/hooks/stripe 400",
            "/hooks/standard 200 applied False",
            "/hooks/standard 200 applied True",
            "/hooks/standard 400",
            "/hooks/standard/queued 202 accepted False",
            "/hooks/standard/queued 202 accepted True",
            "/hooks/standard/queued 400",
        ]
    );
    database.wait_until_worked_off().await;
    database.assert(3, 4).await;
    assert!(database.has_status("zażółć 🦀", "paid").await);
}
