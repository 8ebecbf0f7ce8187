//! Runs with kills, on every shared store.

use idempotent_tests::{postgres_database::PostgresDatabase, redis_server::RedisProgram};

use super::{
    program::{Program, summary},
    seed, variable,
};

/// Places orders while workers are killed, and reads the books with the test's own eyes.
async fn survives_kills(store: &str, program: &Program) {
    let (orders, kills) = (variable("ORDERS", 60), variable("ORDERS_KILLS", 12));
    let seed = seed(store).to_string();
    let arguments = ["--json", "--seed", &seed, "--orders", &orders.to_string(), "--crash", &kills.to_string()];
    let output = program.run(&arguments);
    println!("{store}: {}", String::from_utf8_lossy(&output.stdout));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    let first = summary(&output, 0);
    first.assert_proven(orders);
    assert!(first.get("kills") >= kills * 3 / 4, "{first:?}");
    assert!(first.get("orders_hit") >= first.get("kills"), "{first:?}");
    assert!(first.get("resumed") > 0, "{first:?}");
    let placed = i64::try_from(orders).unwrap();
    for (sql, what) in [
        ("SELECT count(*) FROM charges", "charges"),
        ("SELECT count(DISTINCT order_id) FROM charges", "charged orders"),
        ("SELECT count(*) FROM mails", "mails"),
        ("SELECT count(DISTINCT order_id) FROM mails", "mailed orders"),
    ] {
        assert_eq!(program.outside(sql).await, placed, "{what}");
    }

    // The same orders again: each is answered from its record, and nothing happens.
    let arguments = ["--json", "--seed", &seed, "--orders", &orders.to_string(), "--crash", "0"];
    let again = summary(&program.run(&arguments), 0);
    again.assert_proven(orders);
    assert_eq!(again.get("replays"), orders + again.get("double_clicks"), "{again:?}");
    assert_eq!(summary(&program.run(&["--check", "--json"]), 0).get("mails"), orders);
}

#[tokio::test]
async fn sqlite_survives_kills() {
    survives_kills("sqlite", &Program::on_sqlite()).await;
}

#[tokio::test]
async fn postgres_survives_kills() {
    let database = PostgresDatabase::create().await;
    survives_kills("postgres", &Program::on(database.url())).await;
}

#[tokio::test]
async fn redis_survives_kills() {
    let server = RedisProgram::Redis.start_durable().await;
    survives_kills("redis", &Program::on(server.url())).await;
}

/// Two programs with two workers each, on one store and in one outside world.
#[tokio::test]
async fn programs_share_the_orders() {
    let database = PostgresDatabase::create().await;
    let program = Program::on(database.url());
    let seed = seed("shared").to_string();
    summary(&program.run(&["--check", "--json"]), 0);
    let arguments = ["--json", "--seed", &seed, "--orders", "30", "--crash", "4"];
    let programs = [(); 2].map(|()| program.command(&arguments).spawn().unwrap());
    for program in programs {
        summary(&program.wait_with_output().unwrap(), 0).assert_proven(30);
    }
}

/// A program that is killed takes its workers with it, and the next one goes on.
#[tokio::test]
async fn a_killed_program_is_continued() {
    let program = Program::on_sqlite();
    let seed = seed("continued").to_string();
    let arguments = ["--json", "--seed", &seed, "--orders", "30", "--crash", "0"];
    summary(&program.run(&["--check", "--json"]), 0);
    let mut first = program.command(&arguments).spawn().unwrap();
    while program.outside("SELECT count(*) FROM mails").await < 3 {
        assert!(first.try_wait().unwrap().is_none(), "it has ended");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    first.kill().unwrap();
    first.wait().unwrap();
    summary(&program.run(&arguments), 0).assert_proven(30);
}
