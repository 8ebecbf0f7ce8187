//! Checks the cost of statements: their plans on a large table, and what a hit leaves behind.

use std::fmt::Write as _;

use sqlx::{AssertSqlSafe, PgConnection};

use crate::{PostgresDatabase, PostgresServer, support::*};

/// A statement's file with the types and the values of its parameters.
type Case = (&'static str, &'static str, &'static str, &'static str);

const CASES: [Case; 19] = [
    (
        "claim, hit",
        include_str!("../../idempotent-runtime/src/store/postgres/claim.sql"),
        "text, text, bytea, bytea, bigint, bigint, bigint, bytea, text",
        "'op', '77', '', '', 1, 1, 1, NULL, NULL",
    ),
    (
        "claim, miss",
        include_str!("../../idempotent-runtime/src/store/postgres/claim.sql"),
        "text, text, bytea, bytea, bigint, bigint, bigint, bytea, text",
        "'op', 'new', '', '', 1, 1, 1, NULL, NULL",
    ),
    (
        "claims",
        include_str!("../../idempotent-runtime/src/store/postgres/claim.sql"),
        "text[], text[], bytea[], bytea[], bigint[], bigint[], bigint, bytea[], text[]",
        "'{op,op}', '{77,new}', '{a,a}', '{a,a}', '{1,1}', '{1,1}', 1, '{a,a}', '{a,a}'",
    ),
    (
        "claim in a transaction",
        include_str!("../../idempotent-runtime/src/store/postgres/claim.sql"),
        "text, text, bytea, bytea, bigint, bigint, bigint, bytea, text, text",
        "'op', '77', '', '', 1, 1, 1, NULL, NULL, '1000'",
    ),
    (
        "renew",
        include_str!("../../idempotent-runtime/src/store/postgres/renew.sql"),
        "text, text, bytea, bigint, bigint",
        "'op', '77', '', 1, 1",
    ),
    (
        "complete",
        include_str!("../../idempotent-runtime/src/store/postgres/complete.sql"),
        "text, text, bytea, text, bytea, text, bigint, text",
        "'op', '77', '', 'ok', '', NULL, 1, ''",
    ),
    (
        "completes",
        include_str!("../../idempotent-runtime/src/store/postgres/complete.sql"),
        "text[], text[], bytea[], text[], bytea[], text[], bigint[], text[]",
        "'{op,op}', '{77,78}', '{a,a}', '{ok,ok}', '{a,a}', '{NULL,NULL}', '{1,1}', '{a,a}'",
    ),
    (
        "suspend",
        include_str!("../../idempotent-runtime/src/store/postgres/suspend.sql"),
        "text, text, bytea, text, bigint, bigint, text",
        "'op', '77', '', 'failed', 1, 1, ''",
    ),
    (
        "resolve",
        include_str!("../../idempotent-runtime/src/store/postgres/resolve.sql"),
        "text, text, bytea, text, boolean, bytea, text, bytea, text, bigint, text, text",
        "'op', '77', '', 'abandoned', false, 'b', 'ok', '', NULL, 1, '', ''",
    ),
    (
        "append",
        include_str!("../../idempotent-runtime/src/store/postgres/append.sql"),
        "text, text, bytea, bigint, bigint, text, bytea, text",
        "'op', '77', '', 1, 1, 'step', '', NULL",
    ),
    (
        "end",
        include_str!("../../idempotent-runtime/src/store/postgres/end.sql"),
        "text, text, bytea, text, bytea, text, bigint, text, text",
        "'op', '77', '', 'ok', '', NULL, 1, '', '1000'",
    ),
    (
        "bury",
        include_str!("../../idempotent-runtime/src/store/postgres/bury.sql"),
        "text, text, bytea, text, bigint, text, bytea, text, integer, text, text, text, text, text, bytea",
        "'op', '77', '', 'dead', 1, '', '', 'permanent', 1, NULL, NULL, NULL, NULL, NULL, NULL",
    ),
    (
        "steps",
        include_str!("../../idempotent-runtime/src/store/postgres/steps.sql"),
        "text, text, bytea",
        "'op', '77', ''",
    ),
    (
        "fence",
        include_str!("../../idempotent-runtime/src/store/postgres/fence.sql"),
        "text, text, bytea",
        "'op', '77', ''",
    ),
    (
        "owner",
        include_str!("../../idempotent-runtime/src/store/postgres/owner.sql"),
        "text, text, bytea",
        "'op', '77', ''",
    ),
    ("await", include_str!("../../idempotent-runtime/src/store/postgres/await.sql"), "text, text", "'op', '77'"),
    (
        "list, all",
        include_str!("../../idempotent-runtime/src/store/postgres/list.sql"),
        "text, text, text, bigint",
        "'', '', E'\\x7f', 100",
    ),
    (
        "list, one operation",
        include_str!("../../idempotent-runtime/src/store/postgres/list.sql"),
        "text, text, text, bigint",
        "'op', '', 'op', 100",
    ),
    ("purge", include_str!("../../idempotent-runtime/src/store/postgres/purge.sql"), "bigint, boolean", "100, true"),
];

async fn explain(client: &mut PgConnection, (name, sql, types, values): Case) -> String {
    let settings = include_str!("../../idempotent-runtime/src/store/postgres/settings.sql");
    let asked = match name {
        "claim in a transaction" => {
            include_str!("../../idempotent-runtime/src/store/postgres/asked/claim_in_transaction.sql")
        }
        "claims" => include_str!("../../idempotent-runtime/src/store/postgres/asked/claims.sql"),
        "completes" => include_str!("../../idempotent-runtime/src/store/postgres/asked/completions.sql"),
        "complete" => include_str!("../../idempotent-runtime/src/store/postgres/asked/completion.sql"),
        _ => include_str!("../../idempotent-runtime/src/store/postgres/asked/claim.sql"),
    };
    let sql = sql.replace("{settings}", settings).replace("{asked}", asked).replace("{lock_timeout}", "1000");
    let sql = sql.replace("{answer}", "SELECT * FROM answer");
    let sql = sql.replace("{table}", "idempotent_records");
    let prepare = format!("PREPARE statement ({types}) AS {sql}");
    sqlx::raw_sql(AssertSqlSafe(prepare)).execute(&mut *client).await.expect(name);
    let explain = format!("EXPLAIN EXECUTE statement ({values})");
    let lines: Vec<String> = sqlx::query_scalar(AssertSqlSafe(explain)).fetch_all(&mut *client).await.expect("a plan");
    sqlx::raw_sql("DEALLOCATE statement").execute(&mut *client).await.expect("deallocate");
    lines.join("\n")
}

#[tokio::test]
async fn every_statement_finds_its_rows_by_an_index() {
    let database = PostgresDatabase::create().await;
    connect(&database.url()).await;
    database
        .execute(
            "INSERT INTO idempotent_records
                (operation, key, state, fingerprint, nonce, attempt, expires_at, life_began_at)
             SELECT 'op' || i % 10, i::text, 'ok', ''::bytea, ''::bytea, 1, now() + i * interval '1 second', now()
             FROM generate_series(1, 20000) AS i
             UNION ALL
             SELECT 'op', i::text, 'ok', ''::bytea, ''::bytea, 1, now() + i * interval '1 second', now()
             FROM generate_series(1, 20000) AS i;
             INSERT INTO idempotent_records_steps (generation, name, nonce, result)
             SELECT sha256(i::text::bytea), 'step', '', '' FROM generate_series(1, 20000) AS i;
             ANALYZE idempotent_records, idempotent_records_steps;",
        )
        .await;
    let mut client = database.client().await;
    let mut plans = String::new();
    for mode in ["force_custom_plan", "force_generic_plan"] {
        let set = format!("SET plan_cache_mode = {mode}");
        sqlx::raw_sql(AssertSqlSafe(set)).execute(&mut client).await.expect("a setting");
        for case in CASES {
            let plan = explain(&mut client, case).await;
            writeln!(plans, "-- {}, {mode}\n{plan}\n", case.0).expect("a text");
            assert!(!plan.contains("Seq Scan"), "{}:\n{plan}", case.0);
            let index = if case.0 == "purge" { "idempotent_records_expiry" } else { "idempotent_records_pkey" };
            assert!(plan.contains(index), "{}:\n{plan}", case.0);
        }
    }
    println!("{plans}");
}

/// No transaction number, so no write: neither to the log, nor to the disk.
#[tokio::test]
async fn a_hit_only_reads() {
    let database = PostgresDatabase::from(PostgresServer::start_with(&["autovacuum=off"]).await);
    let store = connect(&database.url()).await;
    let running = request();
    granted(idempotent_runtime::Store::claim(&store, &key("running"), &running).await);
    finish(&store, &key("done")).await;
    let next = "SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint";
    let before: i64 = value(&database, next).await;
    for _ in 0..100 {
        assert!(is_done(&store, &key("done")).await);
        let answer = idempotent_runtime::Store::claim(&store, &key("running"), &request()).await;
        assert!(matches!(answer, Ok(idempotent_runtime::store::ClaimOutcome::InFlight { .. })));
    }
    assert_eq!(value::<i64>(&database, next).await, before);
    claim(&store, &key("new")).await;
    assert_eq!(value::<i64>(&database, next).await, before + 1);
}
