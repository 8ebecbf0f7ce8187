//! The program `admin`, as a user runs it.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests fail by panicking")]

use std::process::Command;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use idempotent_tests::{process::Process, sqlite_file::SqliteFile};

struct Program {
    process: Process,
    url: String,
    login: String,
}

impl Program {
    async fn start(arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_admin"));
        command.args(["--listen", "127.0.0.1:0"]).args(arguments).env_remove("ADMIN_PASSWORD");
        let mut process = Process::talk(&mut command);
        // open URL and log in as NAME with the password TEXT
        let line = process.line().await.unwrap();
        let words: Vec<_> = line.split_whitespace().collect();
        let login = STANDARD.encode(format!("{}:{}", words[6], words[10]));
        Self { process, url: words[1].to_owned(), login }
    }

    async fn get(&self, view: &str, login: &str) -> (StatusCode, String) {
        let request = Request::get(format!("{}/{view}", self.url)).header("authorization", format!("Basic {login}"));
        let client = Client::builder(TokioExecutor::new()).build_http::<Empty<Bytes>>();
        let (parts, body) = client.request(request.body(Empty::new()).unwrap()).await.unwrap().into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        (parts.status, String::from_utf8(body.into()).unwrap())
    }
}

#[tokio::test]
async fn it_shows_what_needs_somebody() {
    let file = SqliteFile::new();
    for (arguments, may_act, may_reveal) in [
        (&[][..], true, false),
        (&["--store", &file.url(), "--reveal"], true, true),
        (&["--store", &file.url(), "--read-only"], false, false),
    ] {
        let mut program = Program::start(arguments).await;
        let (status, start) = program.get("start", &program.login).await;
        assert_eq!(status, StatusCode::OK, "{start}");
        for text in ["demo.charge", "abandoned", "order-0001", "demo.mail", "exhausted", "mail-2"] {
            assert!(start.contains(text), "{text} in {start}");
        }
        let (status, record) = program.get("record?operation=demo.charge&key=order-0001", &program.login).await;
        assert_eq!((status, record.contains("name=\"token\"")), (StatusCode::OK, may_act), "{record}");
        assert_eq!(record.contains("amount_cents"), may_reveal, "{record}");
        assert!(record.contains("request 1 of the shop"), "{record}");
        for login in [STANDARD.encode("alice:guess"), "*".to_owned()] {
            let (status, told) = program.get("start", &login).await;
            assert_eq!((status, &*told), (StatusCode::UNAUTHORIZED, "Log in."));
        }
        assert_eq!(program.process.end("-TERM").code(), Some(0));
    }
}

#[test]
fn what_cannot_work_is_said_at_once() {
    for (arguments, says) in [
        (&["--store", "mysql://localhost"][..], "the URL"),
        (&["--listen", "127.0.0.1:1:2"], "--listen"),
        (&["--store", "postgres://nobody:s3cret@127.0.0.1:1/none", "--listen", "127.0.0.1:0"], "PostgreSQL"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_admin")).args(arguments).output().unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{told}");
        assert!(told.contains(says) && !told.contains("s3cret"), "{told}");
    }
}
