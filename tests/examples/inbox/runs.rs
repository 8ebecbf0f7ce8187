//! Whole runs, with and without kills.

use idempotent_tests::{
    database::{Database, in_time},
    rabbitmq_server::RabbitmqServer,
    redis_server::RedisProgram,
};
use tokio::time::{Duration, sleep};

use crate::{
    program::{Expected, Program, summary},
    variable,
};

/// Runs the program, and reads the tables with the test's own eyes. Then the same messages come again.
async fn works_off(program: Program, kills: u64) {
    let messages = variable("INBOX_MESSAGES", 200);
    let seed = variable("INBOX_SEED", u64::from(rand::random::<u32>()));
    println!("INBOX_SEED={seed}");
    let (count, seed, kills_text) = (messages.to_string(), seed.to_string(), kills.to_string());
    let arguments = ["--json", "--messages", &count, "--seed", &seed, "--kill", &kills_text];
    let output = program.run_beside(&arguments).await;
    println!("{}", String::from_utf8_lossy(&output.stdout));
    let first = summary(&output, 0);
    first.assert_proven(messages);
    assert_eq!(first.get("kills"), kills, "{first:?}");
    assert_tables(&program.database, messages).await;

    let again = summary(&program.run_beside(&["--json", "--messages", &count, "--seed", &seed]).await, 0);
    again.assert_proven(messages);
    assert!(again.get("duplicates") > messages, "{again:?}");
    assert_tables(&program.database, messages).await;
}

async fn assert_tables(database: &Database, messages: u64) {
    let Expected { booked, undecoded, failing, forged } = Expected::of(messages);
    for (sql, count) in [
        ("SELECT count(*) FROM bookings", booked),
        ("SELECT count(DISTINCT order_id) FROM bookings", booked),
        ("SELECT count(*) FROM payments", booked),
        ("SELECT count(DISTINCT order_id) FROM payments", booked),
        (
            "SELECT count(*) FROM bookings JOIN payments ON payments.order_id = bookings.order_id AND payments.cents = bookings.cents",
            booked,
        ),
        ("SELECT count(*) FROM idempotent_records_dead WHERE reason = 'permanent' AND attempts >= 1", undecoded),
        ("SELECT count(*) FROM idempotent_records_dead WHERE reason = 'exhausted' AND attempts = 10", failing),
        ("SELECT count(*) FROM idempotent_records_dead WHERE reason = 'conflict'", forged),
        ("SELECT count(*) FROM bookings WHERE cents = 99", 0),
        ("SELECT count(*) FROM idempotent_records_outbox", 0),
        ("SELECT count(*) FROM queue WHERE dead IS NULL", 0),
        ("SELECT count(*) FROM idempotent_records_view WHERE operation = 'shop%2Fbook-order' AND state = 'ok'", booked),
        (
            "SELECT count(*) FROM idempotent_records_view WHERE operation = 'shop%2Fbook-payment' AND state = 'ok'",
            booked,
        ),
        ("SELECT count(*) FROM idempotent_records_view WHERE state = 'running'", 0),
    ] {
        assert_eq!(database.number(sql).await, i64::try_from(count).unwrap(), "{sql}");
    }
}

#[tokio::test]
async fn sqlite() {
    in_time(works_off(Program::on(Database::sqlite().await), 0)).await;
}

#[tokio::test]
async fn sqlite_with_kills() {
    in_time(works_off(Program::on(Database::sqlite().await), variable("INBOX_KILLS", 4))).await;
}

#[tokio::test]
async fn postgres() {
    in_time(works_off(Program::on(Database::postgres().await), 0)).await;
}

#[tokio::test]
async fn postgres_with_kills() {
    in_time(works_off(Program::on(Database::postgres().await), variable("INBOX_KILLS", 4))).await;
}

#[tokio::test]
async fn rabbitmq_with_kills() {
    let server = RabbitmqServer::start().await;
    let program = Program::with_broker(Database::postgres().await, server.url());
    in_time(works_off(program, variable("INBOX_KILLS", 4))).await;
}

#[tokio::test]
async fn redis_with_kills() {
    let server = RedisProgram::Redis.start_durable().await;
    let program = Program::with_broker(Database::postgres().await, server.url());
    in_time(works_off(program, variable("INBOX_KILLS", 4))).await;
}

/// SIGTERM drains it. A program that is killed takes its consumers with it. The next one goes on.
#[tokio::test]
async fn what_was_left_is_gone_on_with() {
    in_time(async {
        let program = Program::on(Database::sqlite().await);
        summary(&program.run_beside(&["--check", "--json"]).await, 0);
        let arguments = ["--json", "--messages", "100"];
        for (signal, booked) in [("-TERM", 3), ("-KILL", 20)] {
            let mut child = program.command(&arguments).spawn().unwrap();
            while program.database.number("SELECT count(*) FROM bookings").await < booked {
                assert!(child.try_wait().unwrap().is_none(), "it has ended");
                sleep(Duration::from_millis(5)).await;
            }
            let sent = std::process::Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap();
            assert!(sent.success());
            let output = tokio::task::spawn_blocking(|| child.wait_with_output().unwrap()).await.unwrap();
            if signal == "-TERM" {
                let stopped = summary(&output, 1);
                assert_eq!((stopped.0["unfinished"].as_bool(), stopped.get("twice")), (Some(true), 0), "{stopped:?}");
            }
        }
        summary(&program.run_beside(&arguments).await, 0).assert_proven(100);
    })
    .await;
}
