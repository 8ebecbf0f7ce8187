//! The official Stripe client library against a server with the preset `stripe_v1` and faults of every kind.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use http::StatusCode;
use idempotent_runtime::{
    Idempotency,
    tower::{BoxError, IdempotencyKey, IdempotencyLayer, NotBegun, RequestBody},
};
use serde_json::json;
use tokio::process::Command;
use tower::{Layer, ServiceExt};

use crate::support::{Backend, serve_hyper};

crate::lines!(b06_official_client_charges_once);

/// What has happened at the bank and between it and the client, by the charge's name.
#[derive(Clone, Default)]
struct Bank(Arc<Mutex<Books>>);

#[derive(Default)]
struct Books {
    begun: BTreeMap<String, u32>,
    charges: BTreeMap<String, u32>,
    answers: BTreeMap<(String, u16), u32>,
}

impl Bank {
    async fn charge(self, name: String) -> Response {
        let run = {
            let mut books = self.0.lock().unwrap();
            let run = books.begun.entry(name.clone()).or_default();
            *run += 1;
            *run
        };
        let failure = || {
            let error = json!({ "error": { "type": "api_error", "message": "as the test wants it" } });
            (StatusCode::INTERNAL_SERVER_ERROR, Json(error)).into_response()
        };
        if name.starts_with("fails-before") && run <= 2 {
            let mut failed = failure();
            failed.extensions_mut().insert(NotBegun);
            return failed;
        }
        assert!(!(name.starts_with("panics") && run == 1), "before the charge, as the test wants it");
        *self.0.lock().unwrap().charges.entry(name.clone()).or_default() += 1;
        if name.starts_with("twice") {
            // Long enough for the other to come: if it does not, the test says so in the end.
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        if name.starts_with("fails-after") {
            return failure();
        }
        Json(json!({ "id": format!("ch_{name}_{run}"), "object": "charge", "amount": 4200 })).into_response()
    }

    /// The server: behind the layer, and in front of it a network that cuts connections before the answer.
    async fn serve(&self, idempotency: Idempotency) -> SocketAddr {
        let layer = IdempotencyLayer::stripe_v1(idempotency)
            .scope(|parts| Some(parts.headers.get("authorization")?.to_str().ok()?.to_owned()))
            .build()
            .unwrap();
        let bank = self.clone();
        let charges = tower::service_fn(move |request: http::Request<RequestBody<hyper::body::Incoming>>| {
            let name = request.extensions().get::<IdempotencyKey>().expect("a key").as_str().to_owned();
            let bank = bank.clone();
            async move { Ok::<_, Infallible>(bank.charge(name).await) }
        });
        let (service, bank) = (layer.layer(charges), self.clone());
        serve_hyper(tower::service_fn(move |request: http::Request<hyper::body::Incoming>| {
            let (service, bank) = (service.clone(), bank.clone());
            async move {
                let name = request.headers()["idempotency-key"].to_str().expect("text").to_owned();
                let response = service.oneshot(request).await?;
                let mut books = bank.0.lock().unwrap();
                let answers = books.answers.entry((name.clone(), response.status().as_u16())).or_default();
                *answers += 1;
                if name.starts_with("cut") && *answers <= 2 { Err(BoxError::from("cut")) } else { Ok(response) }
            }
        }))
        .await
    }
}

/// Puts Stripe's library into a folder.
async fn install(folder: &Path) {
    let arguments = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target"];
    let pip = Command::new("python3").args(arguments).arg(folder).arg("stripe==16.1.0").status().await;
    assert!(pip.expect("python3").success(), "the client cannot be installed");
}

async fn b06_official_client_charges_once(backend: Backend) {
    let folder = tempfile::tempdir().unwrap();
    install(folder.path()).await;
    let bank = Bank::default();
    let address = bank.serve(Idempotency::new(backend.store().await)).await;
    let kinds = ["plain", "twice", "cut", "fails-before", "fails-after", "panics"];
    let names: Vec<_> = kinds.iter().flat_map(|kind| (0..3).map(move |n| format!("{kind}-{n}"))).collect();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("http/stripe_client.py");
    let client = Command::new("python3")
        .arg(script)
        .arg(format!("http://{address}"))
        .args(&names)
        .env("PYTHONPATH", folder.path())
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .await
        .unwrap();
    let output = String::from_utf8(client.stdout).unwrap();
    assert!(client.status.success(), "{output}\n{}", String::from_utf8_lossy(&client.stderr));

    let books = bank.0.lock().unwrap();
    let answered = |name: &str, status| books.answers.get(&(name.to_owned(), status)).copied().unwrap_or(0);
    for name in &names {
        assert_eq!(books.charges.get(name), Some(&1), "{name}");
        let answers: Vec<_> = output.lines().filter_map(|line| line.strip_prefix(name.as_str())).collect();
        let run = match name.split_once('-').unwrap().0 {
            _ if name.starts_with("fails-before") => 3,
            "panics" => 2,
            _ => 1,
        };
        let expected = if name.starts_with("fails-after") { " failed".to_owned() } else { format!(" ch_{name}_{run}") };
        assert_eq!(answers, vec![expected; if name.starts_with("twice") { 2 } else { 1 }], "{name}");
        // And the client did meet what it was to retry through.
        match name.split_once('-').unwrap().0 {
            "twice" => assert!(answered(name, 409) > 0, "{name}"),
            "cut" => assert_eq!(answered(name, 200), 3, "{name}"),
            _ if name.starts_with("fails-before") => assert_eq!(answered(name, 500), 2, "{name}"),
            _ if name.starts_with("fails-after") => assert_eq!(answered(name, 500), 1, "it is told not to retry"),
            "panics" => assert_eq!(answered(name, 500), 1, "{name}"),
            _ => assert_eq!(answered(name, 200), 1, "{name}"),
        }
    }
}
