//! TLS: what asks for it gets it verified, or nothing.
//!
//! The authority and its certificates are made anew for each test.

use super::{
    Config, Store, StoreError,
    server::{Database, Server, config},
};
use crate::tls::tests::{Authority, Pair};

/// A server that speaks TLS, restarted into it; with `clients`, it lets in only whom that authority vouches for.
async fn speaking_tls(pair: &Pair, clients: Option<&Authority>) -> Database {
    let database = Database::on(Server::own()).await;
    let admin = database.store();
    let mut files = vec![("server.crt", pair.certificate.clone()), ("server.key", pair.key.clone())];
    files.extend(clients.map(|authority| ("clients.crt", authority.file())));
    for (file, source) in files {
        // The server itself writes them, so that they are its own and nobody else's.
        let pem = std::fs::read_to_string(source).unwrap();
        let lines = pem.lines().map(|line| format!("('{line}')")).collect::<Vec<_>>().join(", ");
        admin.run(&format!("COPY (VALUES {lines}) TO PROGRAM 'umask 077; cat > {file}'")).await;
    }
    admin.run("ALTER SYSTEM SET ssl = on").await;
    if clients.is_some() {
        admin.run("ALTER SYSTEM SET ssl_ca_file = 'clients.crt'").await;
        let rule = "hostssl all all 127.0.0.1/32 scram-sha-256 clientcert=verify-ca";
        admin.run(&format!("COPY (VALUES ('{rule}')) TO PROGRAM 'cat > pg_hba.conf'")).await;
    }
    database.server.postgres.restart().unwrap();
    database
}

fn store(url: &str, ca_file: Option<&std::path::Path>) -> Result<Store, StoreError> {
    Store::connect(&Config { ca_file: ca_file.map(Into::into), ..config(url) })
}

/// Why there is no connection, as it would stand in the log.
async fn told(store: Result<Store, StoreError>) -> String {
    format!("{:#}", anyhow::Error::new(store.unwrap().ping().await.unwrap_err()))
}

const ENCRYPTED: &str = "SELECT ssl, version FROM pg_stat_ssl WHERE pid = pg_backend_pid()";

#[tokio::test]
async fn a_mode_that_asks_for_tls_verifies_authority_and_name() {
    let authority = Authority::new("ours");
    let pair = authority.sign("server", &["127.0.0.1", "localhost"], |_| {});
    let database = speaking_tls(&pair, None).await;
    let ca = authority.file();
    let url = |host: &str, parameters: &str| database.url().replace("127.0.0.1", host) + parameters;
    for parameters in ["?sslmode=require", "?sslmode=verify-full"] {
        let trusting = store(&url("127.0.0.1", parameters), Some(&ca)).unwrap();
        assert_eq!(trusting.ask(ENCRYPTED).await, "t|TLSv1.3");
    }
    let in_url = format!("?sslmode=verify-full&sslrootcert={}", ca.display());
    assert_eq!(store(&url("localhost", &in_url), None).unwrap().ask(ENCRYPTED).await, "t|TLSv1.3");
    assert_eq!(store(&url("127.0.0.1", "?sslmode=disable"), None).unwrap().ask(ENCRYPTED).await, "f|∅");

    let elsewhere = url("db.example", "?hostaddr=127.0.0.1&sslmode=verify-full");
    let error = told(store(&elsewhere, Some(&ca))).await;
    assert!(error.contains("is not for `db.example`, which postgres.url says, but"), "{error}");
    let stranger = Authority::new("theirs");
    let error = told(store(&url("127.0.0.1", "?sslmode=require"), Some(&stranger.file()))).await;
    assert!(error.contains("set postgres.ca_file to the PEM file of the authority that signed it"), "{error}");
}

#[tokio::test]
async fn an_expired_certificate_is_refused() {
    let authority = Authority::new("ours");
    let pair = authority.sign("server", &["127.0.0.1"], |params| params.not_after = rcgen::date_time_ymd(2020, 1, 1));
    let database = speaking_tls(&pair, None).await;
    let error = told(store(&(database.url() + "?sslmode=verify-full"), Some(&authority.file()))).await;
    assert!(error.contains("the server's certificate has expired: renew it"), "{error}");
}

#[tokio::test]
async fn a_server_may_ask_for_a_certificate_of_ours() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let database = speaking_tls(&ours.sign("server", &["127.0.0.1"], |_| {}), Some(&theirs)).await;
    let url = database.url() + "?sslmode=verify-full";
    let with = |pair: Option<Pair>| {
        let (certificate_file, key_file) = pair.map(|pair| (pair.certificate, pair.key)).unzip();
        Store::connect(&Config { ca_file: Some(ours.file()), certificate_file, key_file, ..config(&url) })
    };
    let accepted = with(Some(theirs.sign("client", &["churnd"], |_| {}))).unwrap();
    assert_eq!(accepted.ask(ENCRYPTED).await, "t|TLSv1.3");
    let error = told(with(None)).await;
    assert!(error.contains("certificate"), "{error}");
    let error = told(with(Some(ours.sign("client", &["churnd"], |_| {})))).await;
    assert!(error.contains("set postgres.certificate_file to one that it accepts"), "{error}");
    let plain = told(store(&(database.url() + "?sslmode=disable"), None)).await;
    assert!(plain.contains("it asks for TLS: add sslmode=verify-full to postgres.url"), "{plain}");
}

#[tokio::test]
async fn a_server_without_tls_is_refused_where_tls_is_asked_for() {
    let database = Database::empty().await;
    let authority = Authority::new("ours");
    let error = told(store(&(database.url() + "?sslmode=require"), Some(&authority.file()))).await;
    assert!(error.contains("server does not support TLS; switch it on there"), "{error}");
}

#[tokio::test]
async fn a_file_without_certificates_is_named() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let error = store("postgres://u@db.example/d?sslmode=require", Some(file.path())).unwrap_err();
    assert!(error.to_string().contains(&file.path().display().to_string()), "{error}");
    let problems = Config { ca_file: Some("/nowhere/ca.pem".into()), ..Config::default() }.problems();
    assert!(problems[0].contains("/nowhere/ca.pem"), "{problems:?}");
}
