//! TLS to NATS and the ways to say who we are: what is wrong is refused at once, and told with what to do.

use std::path::Path;

use async_nats::connection::State;
use data_encoding::BASE64URL_NOPAD;
use nkeys::KeyPair;
use secrecy::SecretString;
use serde_json::{Value, json};

use super::super::connection::{Config, connect};
use crate::{
    embedded::{
        nats::{NatsOptions, NatsServer},
        tools::Tools,
    },
    tls::tests::{Authority, Pair},
};

/// A server of the test's own.
fn server(dir: &Path, extra: String) -> NatsServer {
    let tools = Tools::from_env("CHURND_NATS_SERVER", "CHURND_PG_BIN");
    NatsServer::start(&tools, NatsOptions { extra, ..NatsOptions::new(dir.join("nats")) }).unwrap()
}

fn tls_block(pair: &Pair, clients: Option<&Authority>) -> String {
    let (certificate, key) = (pair.certificate.display(), pair.key.display());
    let verify = clients
        .map_or(String::new(), |authority| format!("\n  ca_file: \"{}\"\n  verify: true", authority.file().display()));
    format!("tls {{\n  cert_file: \"{certificate}\"\n  key_file: \"{key}\"{verify}\n}}")
}

fn trusting(url: String, authority: &Authority) -> Config {
    Config { tls_ca_file: Some(authority.file()), ..Config::at(url) }
}

/// Connects and has something answered.
async fn works(config: &Config) {
    let client = connect(config, "test").await.unwrap();
    client.flush().await.unwrap();
    assert_eq!(client.connection_state(), State::Connected);
}

/// Why there is no connection, as it would stand in the log.
async fn told(config: &Config) -> String {
    format!("{:#}", anyhow::Error::new(connect(config, "test").await.unwrap_err()))
}

#[tokio::test]
async fn authority_name_and_time_are_verified() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let nats = server(ours.dir(), tls_block(&ours.sign("server", &["127.0.0.1"], |_| {}), None));
    works(&trusting(nats.url(), &ours)).await;
    works(&trusting(nats.url().replace("nats://", "tls://"), &ours)).await;
    let error = told(&trusting(nats.url(), &theirs)).await;
    assert!(error.contains("set nats.tls_ca_file to the PEM file of the authority that signed it"), "{error}");
    let error = told(&trusting(nats.url().replace("127.0.0.1", "localhost"), &ours)).await;
    assert!(error.contains("is not for `localhost`, which nats.url says, but"), "{error}");

    let past = rcgen::date_time_ymd(2020, 1, 1);
    let expired = Authority::new("ours");
    let pair = expired.sign("server", &["127.0.0.1"], |params| params.not_after = past);
    let nats = server(expired.dir(), tls_block(&pair, None));
    let error = told(&trusting(nats.url(), &expired)).await;
    assert!(error.contains("the server's certificate has expired: renew it"), "{error}");
}

#[tokio::test]
async fn a_server_may_ask_for_a_certificate_of_ours() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let nats = server(ours.dir(), tls_block(&ours.sign("server", &["127.0.0.1"], |_| {}), Some(&theirs)));
    let with = |pair: Pair| Config {
        tls_certificate_file: Some(pair.certificate),
        tls_key_file: Some(pair.key),
        ..trusting(nats.url(), &ours)
    };
    works(&with(theirs.sign("client", &["churnd"], |_| {}))).await;
    for refused in [trusting(nats.url(), &ours), with(ours.sign("client", &["churnd"], |_| {}))] {
        let error = told(&refused).await;
        assert!(error.contains("set nats.tls_certificate_file to one that it accepts"), "{error}");
    }
}

#[tokio::test]
async fn a_server_without_tls_is_refused_where_tls_is_demanded() {
    let ours = Authority::new("ours");
    let nats = server(ours.dir(), String::new());
    works(&Config::at(nats.url())).await;
    let by_file = trusting(nats.url(), &ours);
    let by_address = trusting(nats.url().replace("nats://", "tls://"), &ours);
    let by_setting = Config { tls_required: true, ..by_file.clone() };
    for config in [by_address, by_file, by_setting] {
        let error = told(&config).await;
        assert!(error.contains("the server does not speak TLS here, though TLS is demanded"), "{error}");
    }
}

#[tokio::test]
async fn seeds_and_passwords_say_who_we_are_and_wrong_ones_are_refused_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let key = KeyPair::new_user();
    let (seed, public) = (key.seed().unwrap(), key.public_key());
    let users = format!("authorization: {{ users: [ {{ nkey: {public} }}, {{ user: u, password: right }} ] }}");
    let nats = server(dir.path(), users);
    let by_seed = |seed: &str| Config { nkey_seed: Some(SecretString::from(seed)), ..Config::at(nats.url()) };
    works(&by_seed(&seed)).await;
    works(&Config::at(nats.url().replace("//", "//u:right@"))).await;
    for config in [
        by_seed(&KeyPair::new_user().seed().unwrap()),
        Config::at(nats.url()),
        Config::at(nats.url().replace("//", "//u:wr0ng-canary@")),
        Config { user: Some("u".into()), password: Some(SecretString::from("wr0ng-canary")), ..Config::at(nats.url()) },
    ] {
        let error = told(&config).await;
        assert!(error.contains("refused the credentials; check nats.credentials_file, nats.nkey_seed"), "{error}");
        assert!(!error.contains("wr0ng-canary") && !error.contains(&seed), "{error}");
    }
}

/// A token as NATS has them: who `subject` is, said by `issuer`.
fn token(issuer: &KeyPair, subject: &KeyPair, kind: &str, mut grants: Value) -> String {
    grants["type"] = json!(kind);
    grants["version"] = json!(2);
    let claims = json!({"jti": subject.public_key(), "iat": 1_700_000_000, "iss": issuer.public_key(), "name": kind,
        "sub": subject.public_key(), "nats": grants});
    let part = |value: Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
    let signed = format!("{}.{}", part(json!({"typ": "JWT", "alg": "ed25519-nkey"})), part(claims));
    let signature = issuer.sign(signed.as_bytes()).unwrap();
    format!("{signed}.{}", BASE64URL_NOPAD.encode(&signature))
}

#[tokio::test]
async fn a_credentials_file_says_who_we_are() {
    let dir = tempfile::tempdir().unwrap();
    let (operator, account, system) = (KeyPair::new_operator(), KeyPair::new_account(), KeyPair::new_account());
    let unlimited = json!({"limits": {"subs": -1, "data": -1, "payload": -1, "conn": -1, "imports": -1, "exports": -1,
        "wildcards": true, "leaf": -1}});
    let of_account = |pair: &KeyPair| token(&operator, pair, "account", unlimited.clone());
    let extra = format!(
        "operator: \"{}\"\nsystem_account: {}\nresolver: MEMORY\nresolver_preload: {{ {}: \"{}\", {}: \"{}\" }}",
        token(&operator, &operator, "operator", json!({})),
        system.public_key(),
        account.public_key(),
        of_account(&account),
        system.public_key(),
        of_account(&system),
    );
    let nats = server(dir.path(), extra);
    let credentials = |name: &str, issuer: &KeyPair| {
        let user = KeyPair::new_user();
        let (jwt, seed) =
            (token(issuer, &user, "user", json!({"subs": -1, "data": -1, "payload": -1})), user.seed().unwrap());
        let file = dir.path().join(name);
        let text = format!(
            "-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n\
             -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
        );
        std::fs::write(&file, text).unwrap();
        Config { credentials_file: Some(file), ..Config::at(nats.url()) }
    };
    works(&credentials("right.creds", &account)).await;
    let error = told(&credentials("wrong.creds", &KeyPair::new_account())).await;
    assert!(error.contains("refused the credentials; check nats.credentials_file"), "{error}");
    let absent = Config { credentials_file: Some(dir.path().join("none.creds")), ..Config::at(nats.url()) };
    let error = told(&absent).await;
    assert!(error.contains("nats.credentials_file: there is no file"), "{error}");
    std::fs::write(dir.path().join("empty.creds"), "").unwrap();
    let empty = Config { credentials_file: Some(dir.path().join("empty.creds")), ..Config::at(nats.url()) };
    assert!(told(&empty).await.contains("empty.creds"));
}
