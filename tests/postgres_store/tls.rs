//! TLS with certificates of an authority of one's own, to a server that wants one of the client, too.

use std::process::Command;

use idempotent_runtime::{StoreErrorKind, store::postgres::PostgresStoreBuilder};
use idempotent_tests::{certificates::Certificates, process::Process};

use crate::{PostgresDatabase, PostgresServer, support::*};

/// A server with TLS. Its role `secure` needs a certificate of its own, its role `postgres` none.
async fn server(certificates: &Certificates) -> PostgresDatabase {
    let access = "host all postgres all trust\nhostssl all secure all trust clientcert=verify-full\n";
    certificates.write("hba.conf", access);
    let setting = |name: &str, file: &str| format!("{name}={}", certificates.path(file));
    let settings = [
        "ssl=on".to_owned(),
        setting("ssl_cert_file", "server.pem"),
        setting("ssl_key_file", "server.key"),
        setting("ssl_ca_file", "ca.pem"),
        setting("hba_file", "hba.conf"),
    ];
    certificates.give_to_postgres();
    let server = PostgresServer::start_with(&settings.each_ref().map(String::as_str)).await;
    let database = PostgresDatabase::from(server);
    database.execute("CREATE ROLE secure SUPERUSER LOGIN").await;
    database
}

async fn works(builder: PostgresStoreBuilder, url: &str) {
    let store = builder.connect(url).await.expect("a store");
    claim(&store, &key(rand::random::<u64>())).await;
}

async fn is_refused(builder: PostgresStoreBuilder, url: &str, what: &str) {
    let error = builder.connect(url).await.expect_err("not trusted");
    assert_eq!(kind(&error), StoreErrorKind::Refused, "{error:?}");
    assert!(full_text(&error).contains(what), "{error:?}");
}

#[tokio::test]
async fn an_authority_of_ones_own_is_trusted_where_it_is_named() {
    let certificates = Certificates::new();
    let database = server(&certificates).await;
    let (url, root, other) = (database.url(), certificates.path("ca.pem"), certificates.path("other.pem"));
    let trusting = |name: &str| builder().root_certificate(certificates.pem(name));
    works(trusting("ca.pem"), &url).await;
    works(builder(), &format!("{url}?sslrootcert={root}")).await;
    works(builder(), &format!("{url}?sslmode=verify-full&sslrootcert={root}")).await;
    let refused = "root_certificate";
    is_refused(trusting("other.pem"), &url, refused).await;
    is_refused(builder(), &format!("{url}?sslrootcert={other}"), refused).await;
    is_refused(builder(), &format!("{url}?sslmode=verify-full"), refused).await;
    // Not for this name, unless that is not asked for.
    let elsewhere = url.replace("127.0.0.1", "localhost");
    is_refused(trusting("ca.pem"), &elsewhere, refused).await;
    works(trusting("ca.pem"), &format!("{elsewhere}?sslmode=verify-ca")).await;
}

#[tokio::test]
async fn a_certificate_of_the_client_is_shown_where_it_is_named() {
    let certificates = Certificates::new();
    let database = server(&certificates).await;
    let url = database.url().replace("postgres@", "secure@");
    let trusting = || builder().root_certificate(certificates.pem("ca.pem"));
    works(trusting().client_certificate(certificates.pem("client.pem"), certificates.pem("client.key")), &url).await;
    let files = ["ca.pem", "client.pem", "client.key"].map(|name| certificates.path(name));
    let [root, own, key] = &files;
    works(builder(), &format!("{url}?sslrootcert={root}&sslcert={own}&sslkey={key}")).await;
    is_refused(trusting(), &url, "credentials").await;
    let debug = format!("{:?}", builder().client_certificate("canary", "canary"));
    assert!(!debug.contains("canary") && !debug.contains("99, 97"), "{debug}");
}

/// The system's authorities are those of the file that the variable names.
#[tokio::test]
async fn ssl_cert_file_names_the_authorities_of_the_system() {
    let certificates = Certificates::new();
    let database = server(&certificates).await;
    let mut command = Command::new(env!("CARGO_BIN_EXE_sqlite_worker"));
    let url = format!("{}?sslmode=verify-full", database.url());
    command.args([&url, &certificates.path("ledger"), "1", "1"]).env("SSL_CERT_FILE", certificates.path("ca.pem"));
    assert_eq!(Process::talk(&mut command).line().await.as_deref(), Some("ready"));
}

#[tokio::test]
async fn a_server_without_tls_is_refused_where_tls_is_asked_for() {
    let database = PostgresDatabase::create().await;
    let root = Certificates::new().pem("ca.pem");
    is_refused(builder().root_certificate(root), &database.url(), "TLS").await;
}
