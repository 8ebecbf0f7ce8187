//! Checks what a user sees of the program.

use idempotent_tests::{database::Database, on_each_database};
use tokio::process::Command;

use crate::{
    deliveries::{ENDPOINTS, GITHUB_SECRET, STRIPE_SECRET, event, github, standard_secret},
    program::{Program, command, post_to},
    tables::Tables as _,
};

on_each_database!(the_commands_work_when_pasted, it_stops_with_ctrl_c, a_push_may_have_25_megabytes);

/// Pastes the commands with the secrets of the demonstration, which are printed, and with others, which are not.
async fn the_commands_work_when_pasted(database: Database) {
    let mut demo = command(&database.url(), &[]);
    for name in ["STRIPE", "GITHUB", "STANDARD"] {
        demo.env_remove(format!("{name}_WEBHOOK_SECRET"));
    }
    paste(&Program::of(demo).await, "false").await;
    // The next one finds what the first one did.
    let program = Program::start(&database.url(), &[]).await;
    let overview = program.overview().await;
    assert_eq!(overview["objects"].as_array().unwrap().len(), 3);
    paste(&program, "true").await;
    database.wait_until_worked_off().await;
    database.assert(5, 6).await;
}

async fn paste(program: &Program, replayed: &str) {
    let told = program.told_until(r#"curl -sSw '\n' "$url/""#).await;
    let printed = told.split_once("\n\n").unwrap().1;
    assert!(!printed.contains(STRIPE_SECRET) && !printed.contains(&standard_secret(crate::deliveries::STANDARD_KEY)));
    let shell = Command::new("sh")
        .args(["-ec", printed])
        // As the user has them, who gave them to the program.
        .env("STRIPE_WEBHOOK_SECRET", STRIPE_SECRET)
        .env("GITHUB_WEBHOOK_SECRET", GITHUB_SECRET)
        .env("STANDARD_WEBHOOK_SECRET", standard_secret(crate::deliveries::STANDARD_KEY))
        .output()
        .await
        .unwrap();
    let output = String::from_utf8(shell.stdout).unwrap();
    assert!(shell.status.success(), "{output}\n{}", String::from_utf8_lossy(&shell.stderr));
    let lines: Vec<_> = output.lines().collect();
    let outcomes = ["applied", "outdated", "applied", "applied", "accepted"];
    let expected = outcomes.map(|outcome| format!(r#"{{"outcome":"{outcome}","replayed":{replayed}}}"#));
    assert_eq!(lines[..5], expected);
    let overview: serde_json::Value = serde_json::from_str(lines[5]).unwrap();
    assert!(overview["objects"].to_string().contains(r#"{"id":"sub_1","status":"active"}"#), "{overview}");
}

/// Also while a delivery has stalled, and is not waited for: it is rolled back.
async fn it_stops_with_ctrl_c(database: Database) {
    let program = Program::start(&database.url(), &[]).await;
    program.send(&event(ENDPOINTS[0], "evt_1", 1)).await.assert_done(false);
    assert_eq!(program.interrupt().await, Some(0));
    let program = Program::start(&database.url(), &["--stall", "before-commit"]).await;
    let (delivery, address) = (event(ENDPOINTS[0], "evt_2", 2), program.address.clone());
    let sender = tokio::spawn(async move { post_to(&address, &delivery).await });
    program.told_until("stalled").await;
    assert_eq!(program.interrupt().await, Some(0));
    assert!(sender.await.unwrap().is_none(), "the sender has no answer");
    database.assert(1, 1).await;
}

/// Sends the largest body that GitHub sends.
async fn a_push_may_have_25_megabytes(database: Database) {
    let program = Program::start(&database.url(), &[]).await;
    let mut body = event(ENDPOINTS[1], "id", 1).body;
    body.extend(std::iter::repeat_n(' ', 25_000_000 - body.len()));
    program.send(&github(&body, "id", GITHUB_SECRET)).await.assert_done(false);
}

#[tokio::test]
async fn what_cannot_work_is_said_at_once() {
    let database = Database::sqlite().await;
    let run = async |url: &str, arguments: &[&str], secret: &str| {
        let mut command = command(url, arguments);
        let output = command.env("STRIPE_WEBHOOK_SECRET", secret).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    for (url, arguments, secret, says) in [
        (&*database.url(), &[][..], "", "a secret for webhooks is empty"),
        (&database.url(), &[], "whsec_a,", "a secret for webhooks is empty"),
        (&database.url(), &[], "whsec_a\n", "white space"),
        (&database.url(), &["--standard-secret", "whsec_*"], STRIPE_SECRET, "base64"),
        ("mysql://localhost", &[], STRIPE_SECRET, "--store"),
        ("postgres://nobody:s3cret@127.0.0.1:1/none", &[], STRIPE_SECRET, "PostgreSQL cannot be reached: "),
        ("sqlite:///not/there/webhooks.db", &[], STRIPE_SECRET, "the SQLite file cannot be opened: "),
    ] {
        let (code, stderr) = run(url, arguments, secret).await;
        assert_eq!(code, Some(2), "{stderr}");
        assert!(stderr.contains(says) && !stderr.contains("s3cret"), "{stderr}");
    }
    let program = Program::start(&database.url(), &[]).await;
    let taken = program.address.strip_prefix("http://").unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_webhooks")).args(["--listen", taken]).output().await.unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8(output.stderr).unwrap().contains(taken));
}
