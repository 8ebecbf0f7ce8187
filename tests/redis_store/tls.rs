//! TLS with certificates of an authority of one's own, to servers that want one of the client, too.

use std::process::Command;

use idempotent_runtime::{SetupError, StoreErrorKind, store::redis::RedisStoreBuilder};
use idempotent_tests::{certificates::Certificates, ports::free_port, process::Process};

use crate::{
    redis_server::{RedisProgram, RedisServer},
    support::{builder, claim, full_text, key, kind},
    wait_for,
};

/// A server, and the port on which it speaks TLS.
async fn server(certificates: &Certificates, clients: &str, more: &[&str]) -> (RedisServer, u16) {
    let port = free_port();
    let tls = port.to_string();
    let files = ["server.pem", "server.key", "ca.pem"].map(|name| certificates.path(name));
    let mut arguments = vec!["--tls-port", &tls, "--tls-auth-clients", clients];
    for (name, file) in ["--tls-cert-file", "--tls-key-file", "--tls-ca-cert-file"].iter().zip(&files) {
        arguments.extend([name, file.as_str()]);
    }
    arguments.extend(more);
    (RedisProgram::Redis.start_with(&arguments).await, port)
}

async fn works(builder: RedisStoreBuilder, url: &str) {
    let store = builder.connect(url).await.expect("a store");
    claim(&store, &key(format_args!("{}", rand::random::<u64>()))).await;
}

async fn is_refused(builder: RedisStoreBuilder, url: &str) {
    let error = builder.connect(url).await.expect_err("not trusted");
    assert_eq!(kind(&error), StoreErrorKind::Refused, "{error:?}");
    assert!(full_text(&error).contains("root_certificate"), "{error:?}");
}

#[tokio::test]
async fn an_authority_of_ones_own_is_trusted_where_it_is_named() {
    let certificates = Certificates::new();
    let (_server, port) = server(&certificates, "no", &[]).await;
    let url = format!("rediss://127.0.0.1:{port}");
    works(builder().root_certificate(certificates.pem("ca.pem")), &url).await;
    works(builder(), &format!("{url}/0?sslrootcert={}", certificates.path("ca.pem"))).await;
    is_refused(builder(), &url).await;
    is_refused(builder().root_certificate(certificates.pem("other.pem")), &url).await;
    is_refused(builder(), &format!("{url}?sslrootcert={}", certificates.path("other.pem"))).await;
    // Not for this name.
    let elsewhere = format!("rediss://localhost:{port}");
    is_refused(builder().root_certificate(certificates.pem("ca.pem")), &elsewhere).await;
}

#[tokio::test]
async fn a_certificate_of_the_client_is_shown_where_it_is_named() {
    let certificates = Certificates::new();
    let (_server, port) = server(&certificates, "yes", &[]).await;
    let url = format!("rediss://127.0.0.1:{port}");
    let trusting = || builder().root_certificate(certificates.pem("ca.pem"));
    works(trusting().client_certificate(certificates.pem("client.pem"), certificates.pem("client.key")), &url).await;
    let files = ["ca.pem", "client.pem", "client.key"].map(|name| certificates.path(name));
    let [root, own, key] = &files;
    works(builder(), &format!("{url}?sslrootcert={root}&sslcert={own}&sslkey={key}")).await;
    let error = trusting().connect(&url).await.expect_err("the server wants a certificate");
    assert_eq!(kind(&error), StoreErrorKind::Refused, "{error:?}");
}

#[tokio::test]
async fn a_cluster_and_its_nodes_are_trusted_as_well() {
    let certificates = Certificates::new();
    let bus = free_port().to_string();
    let more = ["--cluster-enabled", "yes", "--cluster-port", &bus, "--tls-cluster", "yes"];
    let (server, port) = server(&certificates, "no", &more).await;
    server.command::<()>(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]).await;
    wait_for("the cluster", async || {
        let info: String = server.command(&["CLUSTER", "INFO"]).await;
        info.contains("cluster_state:ok")
    })
    .await;
    let url = format!("rediss+cluster://127.0.0.1:{port}");
    works(builder().root_certificate(certificates.pem("ca.pem")), &url).await;
    works(builder(), &format!("{url}?sslrootcert={}", certificates.path("ca.pem"))).await;
}

#[tokio::test]
async fn parameters_that_cannot_be_used_are_refused() {
    let certificates = Certificates::new();
    let root = certificates.path("ca.pem");
    let key = certificates.path("client.key");
    for url in [
        format!("redis://127.0.0.1?sslrootcert={root}"),
        "rediss://127.0.0.1?sslrootcert=/no/such/file".to_owned(),
        format!("rediss://127.0.0.1?sslkey={key}"),
    ] {
        let error = builder().connect(&url).await.expect_err("it cannot be used");
        assert!(matches!(error, SetupError::Url(_)), "{url}: {error:?}");
    }
    let error = builder().client_certificate("x", "y").connect("rediss://127.0.0.1").await.expect_err("no PEM");
    assert!(matches!(error, SetupError::Setting(_)), "{error:?}");
    let debug = format!("{:?}", builder().client_certificate("canary", "canary"));
    assert!(!debug.contains("canary") && !debug.contains("99, 97"), "{debug}");
}

/// The system's authorities are those of the file that the variable names.
#[tokio::test]
async fn ssl_cert_file_names_the_authorities_of_the_system() {
    let certificates = Certificates::new();
    let (_server, port) = server(&certificates, "no", &[]).await;
    let ledger = certificates.path("ledger");
    let mut command = Command::new(env!("CARGO_BIN_EXE_sqlite_worker"));
    command.args([&format!("rediss://127.0.0.1:{port}"), &ledger, "1", "1"]);
    command.env("SSL_CERT_FILE", certificates.path("ca.pem"));
    assert_eq!(Process::talk(&mut command).line().await.as_deref(), Some("ready"));
}
