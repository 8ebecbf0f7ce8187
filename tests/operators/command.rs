//! The command: each of its commands, exit codes, and lines of JSON.

use std::time::Duration;

use idempotent_runtime::Idempotency;
use idempotent_tests::{
    backend::Backend, captured_events::CapturedEvents, certificates::Certificates, on_every_store, ports::free_port,
    postgres_server::PostgresServer, redis_server::RedisProgram, sqlite_file::SqliteFile,
};
use serde_json::{Value, json};

use crate::fixture::{one_of_each, run, watch};

const WORDS: [&str; 10] =
    ["running", "lapsed", "failed", "suspended", "abandoned", "ok", "error", "not-kept", "exhausted", "dead"];

async fn fill(backend: &Backend) {
    let idempotency = Idempotency::new(backend.store().await);
    one_of_each(&idempotency, backend).await;
}

async fn records_are_listed_and_counted(backend: Backend) {
    fill(&backend).await;
    let url = backend.url();
    let listed = run(&url, &["list", "--json"]).with(0);
    assert_eq!(listed.json().len(), WORDS.len());
    assert!(!listed.out.contains("canary"), "{}", listed.out);
    let text = run(&url, &["list"]).with(0).out;
    assert_eq!(text.lines().count(), WORDS.len() + 1, "{text}");
    assert!(text.starts_with("OPERATION"), "{text}");
    for word in WORDS {
        let found = run(&url, &["list", "each", "--state", word, "--json"]).with(0).json();
        assert_eq!(found.len(), if word == "failed" { 2 } else { 1 }, "{word}");
        let found = found.iter().find(|record| record["key"] == word).unwrap();
        let state = if word == "suspended" { "failed" } else { word };
        assert_eq!((&found["operation"], &found["state"]), (&json!("each"), &json!(state)));
        assert_eq!(found["lease_left_ms"].is_u64(), word == "running");
        assert_eq!(found["not_before_ms"].is_u64(), word == "suspended");
        assert_eq!(found["held"], false);
        assert!(found["expires_in_ms"].as_u64().unwrap() > 1_000_000);
        assert!(found["arguments_bytes"].is_u64());
        assert!(found.get("arguments").is_none());
    }
    assert_eq!(run(&url, &["list", "--limit", "3", "--json"]).with(0).json().len(), 3);
    assert_eq!(run(&url, &["list", "--expires-within", "10m", "--json"]).with(0).json().len(), 0);
    assert!(run(&url, &["list", "--json", "--reveal"]).with(0).out.contains("canary-result"));

    let mut counts = run(&url, &["stats", "--json"]).with(0).json();
    counts.retain(|count| count["state"] == "failed");
    assert_eq!(counts, [json!({ "operation": "each", "state": "failed", "records": 2 })]);
    assert_eq!(run(&url, &["stats", "other", "--json"]).with(0).out, "");
    assert!(run(&url, &["stats"]).with(0).out.contains("abandoned"));
    let mut watching = watch(&url, &["stats", "--watch", "50ms", "--json"]);
    let counts = std::io::BufRead::lines(std::io::BufReader::new(watching.stdout.take().unwrap()));
    let counts: Vec<Value> = counts.take(19).map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect();
    watching.kill().unwrap();
    watching.wait().unwrap();
    assert!(counts[..9].iter().all(|count| counts[9..18].contains(count)), "counted again: {counts:?}");
    assert_eq!(run(&url, &["purge", "--json"]).with(0).json(), [json!({ "removed": 0 })]);
}

async fn a_key_is_shown_and_explained(backend: Backend) {
    fill(&backend).await;
    let url = backend.url();
    let shown = run(&url, &["show", "each", "ok", "--json"]).with(0).json().remove(0);
    assert_eq!((&shown["state"], &shown["result_bytes"]), (&json!("ok"), &json!(15)));
    let shown = run(&url, &["show", "each", "ok"]).with(0).out;
    assert!(shown.contains("15 bytes, hidden") && !shown.contains("canary"), "{shown}");
    let revealed = run(&url, &["show", "each", "ok", "--reveal"]).with(0).out;
    assert!(revealed.contains("canary-result") && revealed.contains("canary-argument"), "{revealed}");
    let revealed = run(&url, &["show", "each", "error", "--reveal", "--json"]).with(0).json().remove(0);
    assert_eq!((&revealed["result"], &revealed["arguments"]["amount"]), (&json!("canary-error"), &json!(1)));
    assert_eq!(run(&url, &["show", "each", "none", "--json"]).with(1).out, "null\n");

    for (key, next, depends) in [
        ("none", ["runs", "runs", "runs"], false),
        ("running", ["waits", "waits", "waits"], false),
        ("lapsed", ["runs", "abandoned", "asks"], true),
        ("abandoned", ["runs", "abandoned", "asks"], true),
        ("failed", ["runs", "runs", "runs"], true),
        ("suspended", ["suspended", "suspended", "suspended"], false),
        ("ok", ["replayed", "replayed", "replayed"], false),
    ] {
        let told = run(&url, &["explain", "each", key, "--json"]).with(0).json().remove(0);
        let policies = ["rerun", "refuse", "reconcile"];
        assert_eq!(policies.map(|policy| told["next"][policy]["answer"].as_str().unwrap()), next, "{key}");
        assert_eq!(told["depends_on_policy"], depends, "{key}");
        assert_eq!(told["arguments"], if key == "none" { "no-record" } else { "unknown" });
    }
    let told = run(&url, &["explain", "each", "lapsed"]).with(0).out;
    assert!(told.contains("with `abandoned = rerun`: runs as attempt 2"), "{told}");
    let told = run(&url, &["explain", "each", "failed", "--max-attempts", "1"]).with(0).out;
    assert!(told.starts_with("refused as exhausted"), "{told}");

    let folder = tempfile::tempdir().unwrap();
    let explained = |arguments: &str| {
        let path = folder.path().join("arguments.json");
        std::fs::write(&path, arguments).unwrap();
        run(&url, &["explain", "each", "ok", "--json", "--arguments", path.to_str().unwrap()])
    };
    let same = explained(r#"{ "card": "canary-argument", "amount": 1 }"#).with(0).json().remove(0);
    assert_eq!((&same["arguments"], &same["next"]["rerun"]["answer"]), (&json!("same"), &json!("replayed")));
    let other = explained(r#"{"amount":2,"card":"canary-argument"}"#).with(0).json().remove(0);
    assert_eq!(other["next"]["rerun"]["arguments"], json!(["amount"]));
    let float = explained(r#"{"amount":1.0,"card":"canary-argument"}"#).with(0).json().remove(0);
    assert_eq!(float["arguments"], "unknown", "an integer, or a float that is written so");
    explained("not JSON").with(2);
}

async fn a_migration_is_asked_for(backend: Backend) {
    let url = backend.url();
    if !matches!(backend, Backend::Redis { .. }) {
        for command in [&["list"][..], &["stats"], &["purge"], &["show", "each", "ok"]] {
            let told = run(&url, command).fails();
            assert!(told.contains("migrate"), "{told}");
        }
    }
    let is_sql = !matches!(backend, Backend::Redis { .. });
    for _ in 0..2 {
        assert_eq!(run(&url, &["migrate", "--json"]).with(0).json(), [json!({ "migrated": is_sql })]);
    }
    assert_eq!(run(&url, &["list", "--json"]).with(0).out, "");
}

/// A warning leads to its record.
async fn an_event_leads_to_a_record(backend: Backend) {
    let events = CapturedEvents::start();
    let idempotency = Idempotency::new(backend.store().await);
    let charge = async |amount: u32| {
        let call = idempotency.call("charge").key("canary-key").arguments(&amount);
        call.run(async { Ok::<_, idempotent_runtime::Error>(()) }).await
    };
    charge(1).await.unwrap();
    idempotency.call("charge").key("another").run(async { Ok::<_, idempotent_runtime::Error>(()) }).await.unwrap();
    drop(events.take());
    charge(2).await.unwrap_err();
    let [event] = &events.take()[..] else { panic!("one warning") };
    assert!(!event.contains("canary"), "{event}");
    let digest = event.split_once("key_digest=").unwrap().1.split_whitespace().next().unwrap();
    for arguments in [&["show", "--digest", digest, "--json"][..], &["show", "charge", "--digest", digest, "--json"]] {
        let shown = run(&backend.url(), arguments).with(0).json().remove(0);
        assert_eq!((&shown["key"], &shown["key_digest"]), (&json!("canary-key"), &json!(digest)));
    }
    run(&backend.url(), &["show", "other", "--digest", digest]).with(1);
    run(&backend.url(), &["show", "--digest", "0123456789abcdef"]).with(1);
    run(&backend.url(), &["show", "--digest", "0123"]).with(2);
    run(&backend.url(), &["show", "charge", "canary-key", "--digest", digest]).with(2);
}

on_every_store!(
    without memory: an_event_leads_to_a_record, records_are_listed_and_counted, a_key_is_shown_and_explained, a_migration_is_asked_for,
);

#[test]
fn a_shell_gets_completions() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let printed = run("", &["completions", shell]).with(0).out;
        assert!(printed.contains("resolve") && printed.contains("if-attempt"), "{shell}: {printed}");
    }
}

#[test]
fn the_command_line_is_checked() {
    for command in [
        &[][..],
        &["nothing"],
        &["list", "--state", "finished"],
        &["list", "--reveal"],
        &["list", "--expires-within", "10"],
        &["show", "each"],
        &["explain", "each", "k", "--max-attempts", "0"],
        &["show", "a b", "k"],
        &["show", "each", "a|b"],
        &["dead", "discard", "each", "1"],
    ] {
        let file = SqliteFile::new();
        run(&file.url(), &["migrate"]).with(0);
        let ended = run(&file.url(), command).with(2);
        assert!(!ended.err.is_empty() && ended.out.is_empty(), "{command:?}: {}", ended.out);
    }
    for command in [
        &["--help"][..],
        &["list", "--help"],
        &["explain", "--help"],
        &["resolve", "--help"],
        &["dead", "replay", "--help"],
    ] {
        assert!(run("", command).with(0).out.contains("--store"), "{command:?}");
    }
}

#[tokio::test]
async fn a_store_that_cannot_be_used_is_one_line_without_credentials() {
    let free = free_port();
    let urls = [
        String::new(),
        "memory:".to_owned(),
        "http://operator:canary@localhost".to_owned(),
        format!("redis://operator:canary@127.0.0.1:{free}"),
        format!("postgres://operator:canary@127.0.0.1:{free}/shop"),
        "postgres://operator:canary@[nonsense/shop".to_owned(),
        "redis://operator:canary@127.0.0.1:nonsense".to_owned(),
        "sqlite:///none/canary.db".to_owned(),
    ];
    for url in urls {
        for command in ["list", "doctor", "migrate"] {
            let told = run(&url, &[command]).fails();
            assert!(!told.contains("canary"), "{url}: {told}");
        }
    }
    let server = PostgresServer::start().await;
    server.execute("CREATE ROLE operator LOGIN PASSWORD 'canary'").await;
    run(&server.url(), &["migrate"]).with(0);
    let url = server.url().replace("postgres://postgres", "postgres://operator:canary");
    for command in [&["list"][..], &["show", "each", "ok"]] {
        let told = run(&url, command).fails();
        assert!(told.contains("privilege") && !told.contains("canary"), "{told}");
    }
    server.execute("UPDATE idempotent_records_schema SET version = version + 1").await;
    assert!(run(&server.url(), &["list"]).fails().contains("newer"));
    server.execute("UPDATE idempotent_records_schema SET version = version - 2").await;
    assert!(run(&server.url(), &["list"]).fails().contains("older"));
    let file = SqliteFile::new();
    run(&file.url(), &["migrate"]).with(0);
    file.execute("UPDATE idempotent_records_schema SET version = version + 1").await;
    assert!(run(&file.url(), &["list"]).fails().contains("newer"));
}

#[tokio::test]
async fn doctors_find_what_is_dangerous() {
    let find = |url: &str, code: i32| -> Vec<String> {
        let checks = run(url, &["doctor", "--json"]).with(code).json();
        let found = checks.iter().filter(|check| check["ok"] == false);
        let found = found.inspect(|check| assert!(check["costs"].is_string() && check["mend"].is_string()));
        found.map(|check| check["check"].as_str().unwrap().to_owned()).collect()
    };
    for program in [RedisProgram::Redis, RedisProgram::Valkey] {
        assert_eq!(find(&program.start_durable().await.url(), 0), [""; 0]);
        let careless = program.start_with(&["--maxmemory-policy", "allkeys-lru", "--appendonly", "no"]).await;
        assert_eq!(find(&careless.url(), 1), ["maxmemory-policy", "appendonly"]);
        assert!(run(&careless.url(), &["doctor"]).with(1).out.contains("CONFIG SET appendonly yes"));
        run(&careless.url(), &["list"]).with(0);
    }

    let file = SqliteFile::new();
    run(&file.url(), &["migrate"]).with(0);
    assert_eq!(find(&file.url(), 0), [""; 0]);
    file.execute("PRAGMA journal_mode = DELETE").await;
    assert_eq!(find(&file.url(), 1), ["journal_mode"]);

    let settings = ["fsync=off", "synchronous_commit=off", "default_transaction_isolation=serializable"];
    let careless = PostgresServer::start_with(&settings).await;
    assert_eq!(find(&careless.url(), 1), ["fsync", "synchronous_commit", "default_transaction_isolation"]);
}

/// Of an authority that nobody has named.
#[tokio::test]
async fn a_certificate_that_is_not_trusted_is_one_line() {
    let certificates = Certificates::new();
    let port = free_port().to_string();
    let files = ["server.pem", "server.key", "ca.pem"].map(|name| certificates.path(name));
    let mut arguments = vec!["--tls-port", &port, "--tls-auth-clients", "no"];
    for (name, file) in ["--tls-cert-file", "--tls-key-file", "--tls-ca-cert-file"].iter().zip(&files) {
        arguments.extend([name, file.as_str()]);
    }
    let _server = RedisProgram::Redis.start_with(&arguments).await;
    for command in ["list", "doctor", "migrate"] {
        let told = run(&format!("rediss://operator:canary@127.0.0.1:{port}"), &[command]).fails();
        assert!(told.contains("certificate") && !told.contains("canary"), "{command}: {told}");
    }
}

/// Letters of a store that keeps them.
async fn dead_letters_are_listed_replayed_and_discarded(backend: Backend) {
    use idempotent_runtime::{Fingerprint, store::DeadLetter};
    let store = backend.store().await;
    let url = backend.url();
    let Some(letters) = store.dead_letters() else {
        assert!(run(&url, &["dead", "list", "inbox"]).fails().contains("broker"));
        return;
    };
    assert_eq!(run(&url, &["dead", "list", "inbox", "--json"]).with(0).out, "");
    for (number, payload) in [(1_u8, Some("canary-payload")), (2, None)] {
        let fingerprint = Fingerprint::from_bytes([number; 32]);
        let mut letter =
            DeadLetter::new("inbox".to_owned(), format!("m-{number}"), fingerprint, "permanent".to_owned());
        letter.error = Some("canary-error\u{1b}[2J\u{9b}2J".to_owned());
        letter.payload = payload.map(Into::into);
        letters.put(&letter).await.unwrap();
    }
    let listed = run(&url, &["dead", "list", "inbox", "--json"]).with(1);
    assert!(!listed.out.contains("canary"), "{}", listed.out);
    let [first, second] = &listed.json()[..] else { panic!("{}", listed.out) };
    assert_eq!((&first["key"], &first["reason"]), (&json!("m-1"), &json!("permanent")));
    assert_eq!((&first["payload_bytes"], &second["payload_bytes"]), (&json!(14), &Value::Null));
    let text = run(&url, &["dead", "list", "inbox"]).with(1).out;
    assert!(text.contains("hidden") && !text.contains("canary"), "{text}");
    let revealed = run(&url, &["dead", "list", "inbox", "--reveal"]).with(1).out;
    assert!(revealed.contains("canary-error"));
    assert!(!revealed.contains(['\u{1b}', '\u{9b}']), "the terminal would obey it");
    let revealed = run(&url, &["dead", "list", "inbox", "--reveal", "--json"]).with(1).out;
    assert!(revealed.contains("canary-payload"), "{revealed}");

    let (first, second) = (first["id"].to_string(), second["id"].to_string());
    let replay = |id: &str, code| run(&url, &["dead", "replay", "inbox", id, "--json"]).with(code).json().remove(0);
    assert_eq!(replay(&first, 0), json!({ "replay": "asked" }));
    assert_eq!(replay(&first, 1), json!({ "replay": "not-dead" }));
    assert_eq!(replay(&second, 1), json!({ "replay": "taken" }));
    let discard = |id: &str, code| run(&url, &["dead", "discard", "inbox", id, "--yes", "--json"]).with(code).json();
    assert_eq!(discard(&second, 0), [json!({ "discarded": true })]);
    assert_eq!(discard(&second, 1), [json!({ "discarded": false })]);
}

on_every_store!(without memory: dead_letters_are_listed_replayed_and_discarded);

async fn expired_records_are_purged(backend: Backend) {
    fill(&backend).await;
    let url = backend.url();
    backend.advance(Duration::from_hours(24 * 30)).await;
    assert_eq!(run(&url, &["list", "--json"]).with(0).out, "");
    let removed = run(&url, &["purge", "--json"]).with(0).json().remove(0)["removed"].as_u64().unwrap();
    assert_eq!(removed, if matches!(backend, Backend::Redis { .. }) { 0 } else { WORDS.len() as u64 });
}

on_every_store!(without memory: expired_records_are_purged);
