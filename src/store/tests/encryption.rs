//! TLS: what asks for it gets it verified, or nothing.
//!
//! The certificates in `tls/` are for these tests only: their authority's key was thrown away, and they name nothing but
//! this machine.

use super::{
    Config, Store, StoreError,
    server::{Database, Server, config},
};

const CA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/store/tests/tls/ca.pem");

/// A server that speaks TLS, restarted into it.
async fn speaking_tls() -> Database {
    let database = Database::on(Server::own()).await;
    let admin = database.store();
    for (file, pem) in [("server.crt", include_str!("tls/server.pem")), ("server.key", include_str!("tls/server.key"))]
    {
        // The server itself writes them, so that they are its own and nobody else's.
        let lines = pem.lines().map(|line| format!("('{line}')")).collect::<Vec<_>>().join(", ");
        admin.run(&format!("COPY (VALUES {lines}) TO PROGRAM 'umask 077; cat > {file}'")).await;
    }
    admin.run("ALTER SYSTEM SET ssl = on").await;
    database.server.postgres.restart().unwrap();
    database
}

fn store(url: &str, ca_file: Option<&str>) -> Result<Store, StoreError> {
    Store::connect(&Config { ca_file: ca_file.map(Into::into), ..config(url) })
}

const ENCRYPTED: &str = "SELECT ssl, version FROM pg_stat_ssl WHERE pid = pg_backend_pid()";

#[tokio::test]
async fn a_mode_that_asks_for_tls_verifies_authority_and_name() {
    let database = speaking_tls().await;
    let url = |host: &str, parameters: &str| database.url().replace("127.0.0.1", host) + parameters;
    for parameters in ["?sslmode=require", "?sslmode=verify-full"] {
        let trusting = store(&url("127.0.0.1", parameters), Some(CA)).unwrap();
        assert_eq!(trusting.ask(ENCRYPTED).await, "t|TLSv1.3");
    }
    let in_url = format!("?sslmode=verify-full&sslrootcert={CA}");
    assert_eq!(store(&url("localhost", &in_url), None).unwrap().ask(ENCRYPTED).await, "t|TLSv1.3");
    assert_eq!(store(&url("127.0.0.1", "?sslmode=disable"), None).unwrap().ask(ENCRYPTED).await, "f|∅");

    let elsewhere = store(&url("db.example", "?hostaddr=127.0.0.1&sslmode=verify-full"), Some(CA)).unwrap();
    let error = elsewhere.ping().await.unwrap_err();
    assert!(format!("{error:?}").contains("not valid for name"), "{error:?}");
    // Where the system has no authorities of its own, it says so instead.
    if let Ok(stranger) = store(&url("127.0.0.1", "?sslmode=require"), None) {
        let error = stranger.ping().await.unwrap_err();
        assert!(format!("{error:?}").contains("UnknownIssuer"), "{error:?}");
    }
}

#[tokio::test]
async fn a_server_without_tls_is_refused_where_tls_is_asked_for() {
    let database = Database::empty().await;
    let error = store(&(database.url() + "?sslmode=require"), Some(CA)).unwrap().ping().await.unwrap_err();
    assert!(format!("{error:?}").contains("TLS"), "{error:?}");
}

#[tokio::test]
async fn a_file_without_certificates_is_named() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().to_str().unwrap();
    let error = store("postgres://u@db.example/d?sslmode=require", Some(path)).unwrap_err();
    assert!(error.to_string().contains(path), "{error}");
    let problems = Config { ca_file: Some("/nowhere/ca.pem".into()), ..Config::default() }.problems();
    assert!(problems[0].contains("/nowhere/ca.pem"), "{problems:?}");
}
