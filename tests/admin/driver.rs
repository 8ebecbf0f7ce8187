//! A browser: chromium without a window, driven by its chromedriver.

use std::{process::Command, sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use fantoccini::{
    Client, ClientBuilder, Locator,
    elements::Element,
    error::CmdError,
    wd::{Capabilities, WebDriverCompatibleCommand},
};
use hyper_util::client::legacy::connect::HttpConnector;
use idempotent_tests::{ports::free_port, process::Process, wait::wait_for};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpStream;
use url::{ParseError, Url};

const PATIENCE: Duration = Duration::from_secs(20);

/// The screen, in the pixels of CSS.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Screen {
    pub(crate) name: &'static str,
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) is_phone: bool,
}

pub(crate) const PHONE: Screen = Screen { name: "phone", width: 390, height: 844, is_phone: true };
pub(crate) const DESK: Screen = Screen { name: "desk", width: 1280, height: 900, is_phone: false };

/// A browser with a profile of its own.
pub(crate) struct Browser {
    client: Client,
    screen: Screen,
    /// Ended before its folder is removed.
    _driver: Process,
    _folder: TempDir,
}

impl Browser {
    async fn open(screen: Screen) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = free_port();
        let mut command = Command::new("chromedriver");
        // Whatever the browser writes is in the folder, and goes with it.
        command.arg(format!("--port={port}")).env("HOME", folder.path()).env("TMPDIR", folder.path());
        let driver = Process::start(&mut command, &folder.path().join("chromedriver.log"));
        wait_for("chromedriver", async || TcpStream::connect(("127.0.0.1", port)).await.is_ok()).await;
        let mut builder = ClientBuilder::new(HttpConnector::new());
        builder.capabilities(capabilities(screen, &folder));
        let client = builder.connect(&format!("http://127.0.0.1:{port}")).await.unwrap();
        Self { client, screen, _driver: driver, _folder: folder }
    }

    pub(crate) async fn goto(&self, url: &str) {
        self.client.goto(url).await.unwrap();
    }

    /// Waits for what a view has, which is how one knows that it is there.
    pub(crate) async fn find(&self, css: &str) -> Element {
        self.client
            .wait()
            .at_most(PATIENCE)
            .for_element(Locator::Css(css))
            .await
            .unwrap_or_else(|error| panic!("{css}: {error}"))
    }

    pub(crate) async fn click(&self, css: &str) {
        self.find(css).await.click().await.unwrap_or_else(|error| panic!("{css}: {error}"));
    }

    pub(crate) async fn type_into(&self, css: &str, text: &str) {
        self.find(css).await.send_keys(text).await.unwrap_or_else(|error| panic!("{css}: {error}"));
    }

    pub(crate) async fn text(&self, css: &str) -> String {
        self.find(css).await.text().await.unwrap()
    }

    /// Asserts that nothing is wider than the screen, and photographs the view where `ADMIN_SHOTS` names a folder.
    pub(crate) async fn look(&self, view: &str) {
        let widths = "return [document.documentElement.scrollWidth, window.innerWidth]";
        let widths = self.client.execute(widths, vec![]).await.unwrap();
        let Screen { name, width, .. } = self.screen;
        assert_eq!(widths[1], width, "the screen of a {name}");
        assert!(widths[0].as_u64().unwrap() <= width.into(), "{view} is wider than a {name}: {widths}");
        let Some(folder) = std::env::var_os("ADMIN_SHOTS") else { return };
        for scheme in ["light", "dark"] {
            self.devtools(
                "Emulation.setEmulatedMedia",
                json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] }),
            )
            .await;
            let shot = self.devtools("Page.captureScreenshot", json!({ "captureBeyondViewport": true })).await;
            let png = STANDARD.decode(shot["data"].as_str().unwrap()).unwrap();
            let path = std::path::Path::new(&folder).join(format!("{}-{view}-{scheme}.png", self.screen.name));
            tokio::fs::write(path, png).await.unwrap();
        }
    }

    async fn devtools(&self, command: &str, parameters: Value) -> Value {
        self.command("goog/cdp/execute", json!({ "cmd": command, "params": parameters })).await.unwrap()
    }

    async fn command(&self, path: &'static str, body: Value) -> Result<Value, CmdError> {
        self.client.issue_cmd(ChromeCommand { path, body }).await
    }

    /// Runs a script, as an attacker would who had found a way.
    pub(crate) async fn execute(&self, script: &str) {
        self.client.execute(script, vec![]).await.unwrap();
    }

    /// What has been written to the console since the last look: errors, warnings, violations of the policy. That a response has a
    /// status other than 200 is none of them.
    pub(crate) async fn complaints(&self) -> Vec<String> {
        let log = self.command("se/log", json!({ "type": "browser" })).await.unwrap();
        let entries = log.as_array().unwrap().iter();
        let said = entries.map(|entry| entry["message"].as_str().unwrap().to_owned());
        said.filter(|said| !said.contains("the server responded with a status of 4")).collect()
    }

    /// Runs a test in a browser, which ends with it, however it ends.
    pub(crate) async fn with<F: Future<Output = ()> + Send + 'static>(
        screen: Screen,
        test: impl FnOnce(Arc<Self>) -> F,
    ) {
        let browser = Arc::new(Self::open(screen).await);
        // Its driver lives until it has ended it.
        let ended = tokio::spawn(test(Arc::clone(&browser))).await;
        browser.client.clone().close().await.unwrap();
        if let Err(panic) = ended {
            std::panic::resume_unwind(panic.into_panic());
        }
    }
}

fn capabilities(screen: Screen, folder: &TempDir) -> Capabilities {
    let Screen { width, height, is_phone, .. } = screen;
    let profile = folder.path().join("profile");
    let capabilities = json!({
        "browserName": "chrome",
        "goog:loggingPrefs": { "browser": "ALL" },
        "goog:chromeOptions": {
            "args": [
                "--headless=new",
                // As root, in a container, there is none; the pages are our own.
                "--no-sandbox",
                "--disable-dev-shm-usage",
                "--no-first-run",
                format!("--window-size={width},{height}"),
                format!("--user-data-dir={}", profile.display()),
            ],
            // A window is never as narrow as a phone.
            "mobileEmulation": {
                "deviceMetrics": { "width": width, "height": height, "pixelRatio": 1, "mobile": is_phone, "touch": is_phone },
            },
        },
    });
    let Value::Object(capabilities) = capabilities else { unreachable!("an object") };
    capabilities
}

/// A command beyond the standard.
#[derive(Debug)]
struct ChromeCommand {
    path: &'static str,
    body: Value,
}

impl WebDriverCompatibleCommand for ChromeCommand {
    fn endpoint(&self, base: &Url, session: Option<&str>) -> Result<Url, ParseError> {
        base.join(&format!("session/{}/{}", session.unwrap_or_default(), self.path))
    }

    fn method_and_body(&self, _: &Url) -> (http::Method, Option<String>) {
        (http::Method::POST, Some(self.body.to_string()))
    }
}
