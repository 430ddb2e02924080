//! What is promised of settings: the built-in file is complete, sources win in order, mistakes are told all at once.

use std::fs;

use secrecy::ExposeSecret;

use super::*;

const CANARY: &str = "canary-7f3a";

fn with_environment(variables: &[(&str, &str)]) -> Sources {
    let environment = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Sources { environment, ..Sources::default() }
}

fn flag(name: &'static str, key: &'static str, value: &str) -> Flag {
    Flag { name, key, value: value.to_owned() }
}

#[test]
fn defaults_are_valid() {
    let config = Config::load(&Sources::default()).unwrap();
    assert_eq!(config.http.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(config.pipeline.partitions, 16);
    assert_eq!(config.roles.to_string(), "engine, bridge, archive, notify");
    assert!(config.stripe.webhook_secret.is_none());
    assert!(config.nats.credentials_file.is_none());
    assert!(!config.instance_name().is_empty());
}

#[test]
fn every_setting_has_a_sentence() {
    for (key, setting) in Catalog::built_in().iter() {
        let words = setting.sentence.split(' ').count();
        assert!(words >= 3, "{key} has no sentence");
    }
}

#[test]
fn built_in_file_holds_exactly_the_fields_of_the_structs() {
    let fields = super::tests_fields::fields_of::<Config>(DEFAULTS);
    let keys: Vec<String> = Catalog::built_in().iter().map(|(key, _)| key.to_owned()).collect();
    assert_eq!(fields, keys);
}

#[test]
fn later_sources_win() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("churnd.toml");
    fs::write(
        &file,
        "instance = 'file'\n[http]\nlisten = '127.0.0.1:1'\n[nats]\nurl = 'nats://file:1'\n[log]\nlevel = 'debug'",
    )
    .unwrap();
    let mut sources = with_environment(&[
        ("PORT", "2"),
        ("DATABASE_URL", "postgres://foreign"),
        ("CHURND__NATS__URL", "nats://environment:1"),
        ("CHURND__INSTANCE", "environment"),
        ("CHURND__ROLES", "bridge, engine"),
        ("CHURND__POSTGRES__POOL_SIZE", "3"),
        ("SENTRY_DSN", ""),
    ]);
    sources.usual_files = vec![directory.path().join("absent.toml"), file];
    sources.flags = vec![flag("--nats-url", "nats.url", "nats://flag:1")];
    let config = Config::load(&sources).unwrap();
    assert_eq!(config.log.level, "debug");
    assert_eq!(config.http.listen.to_string(), "0.0.0.0:2");
    assert_eq!(config.nats.url, "nats://flag:1");
    assert_eq!(config.instance_name(), "environment");
    assert_eq!(config.postgres.url.expose_secret(), "postgres://foreign");
    assert_eq!(config.postgres.pool_size, 3);
    assert_eq!(config.roles.to_string(), "engine, bridge");
    assert!(config.sentry.dsn.is_none());
}

#[test]
fn secrets_come_from_the_credentials_directory() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("postgres.url"), "postgres://credential\n").unwrap();
    fs::write(directory.path().join("nats.creds"), "-----BEGIN NATS USER JWT-----").unwrap();
    fs::write(directory.path().join("tls.key"), "of no concern").unwrap();
    let sources = Sources { credentials: Some(directory.path().to_owned()), ..Sources::default() };
    let config = Config::load(&sources).unwrap();
    assert_eq!(config.postgres.url.expose_secret(), "postgres://credential");
    assert_eq!(config.nats.credentials_file, Some(directory.path().join("nats.creds")));
}

/// `LoadCredential=NAME:…` of a unit.
fn credentials_of(unit: &str) -> Vec<&str> {
    let names = unit.lines().filter_map(|line| line.strip_prefix("LoadCredential=")?.split(':').next());
    names.collect()
}

#[test]
fn every_secret_is_a_credential_of_the_unit_and_means_something() {
    let catalog = Catalog::built_in();
    let unit = credentials_of(include_str!("../../systemd/churnd.service"));
    for (key, _) in catalog.iter().filter(|(key, _)| Catalog::is_secret(key)) {
        assert!(unit.contains(&key), "churnd.service loads no credential {key}");
    }
    let others = credentials_of(include_str!("../../systemd/churnd-migrate.service"));
    for name in unit.iter().chain(&others) {
        assert!(*name == "nats.creds" || catalog.get(name).is_some(), "the credential {name} sets nothing");
        let file = format!("`churnd.{name}`");
        assert!(include_str!("../../README.md").contains(&file), "the README does not name {file}");
    }
}

#[test]
fn the_unit_leaves_room_for_what_the_default_settings_allow() {
    /// Bodies of HTTP requests above 64 KiB share so much.
    const BODIES: u64 = 256 << 20;
    let unit = include_str!("../../systemd/churnd.service");
    let limit = |name: &str| {
        let text = unit.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        let (number, unit) = text.split_at(text.len() - 1);
        number.parse::<u64>().unwrap() << if unit == "G" { 30 } else { 20 }
    };
    let bound = Config::load(&Sources::default()).unwrap().pipeline.memory_bound();
    let (high, most) = (limit("MemoryHigh="), limit("MemoryMax="));
    assert!(bound + BODIES < high && high < most, "{} MiB are allowed", (bound + BODIES) >> 20);
}

#[test]
fn all_mistakes_are_told_at_once_with_source_key_value_and_what_is_allowed() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("churnd.toml");
    fs::write(&file, "[pipeline]\nbatch = 'many'\npartitions = 70000\n[postgress]\nurl = 'x'\n[log]\nformat = 'xml'\n")
        .unwrap();
    let mut sources = with_environment(&[
        ("CHURND__HTTP__LISTEN", "nowhere"),
        ("CHURND__NATS__TLS_REQUIRED", "maybe"),
        ("CHURND__PIPELINE__SETTLE_SECONDS", "0"),
        ("CHURND__LOG__LEVELS", "info"),
    ]);
    sources.file = Some(file.clone());
    sources.flags = vec![flag("--roles", "roles", "engine,brigde")];
    let told = Config::load(&sources).unwrap_err().to_string();
    let path = file.display();
    for expected in [
        "the configuration has 9 mistakes".to_owned(),
        format!("{path}: there is no setting `postgress.url`; did you mean `postgres.url`?"),
        format!(
            "{path}: pipeline.batch = `many`: this is not a whole number. Events taken from the stream at once, 1 to 10000."
        ),
        format!("{path}: pipeline.partitions = `70000`: "),
        format!("{path}: log.format = `xml`: "),
        "environment CHURND__HTTP__LISTEN: http.listen = `nowhere`: invalid socket address".to_owned(),
        "environment CHURND__NATS__TLS_REQUIRED: nats.tls_required = `maybe`: this is neither true nor false."
            .to_owned(),
        "environment CHURND__PIPELINE__SETTLE_SECONDS: pipeline.settle_seconds is 0: it must lie between 1 and 3600"
            .to_owned(),
        "environment CHURND__LOG__LEVELS: there is no setting `log.levels`; did you mean `log.level`?".to_owned(),
        "--roles: roles = `engine, brigde`: ".to_owned(),
    ] {
        assert!(told.contains(&expected), "{expected}\nis missing in\n{told}");
    }
}

#[test]
fn files_that_cannot_be_read_are_told_by_line_without_their_text() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("churnd.toml");
    fs::write(&file, format!("[postgres]\nurl = \"postgres://churnd:{CANARY}@db\n")).unwrap();
    let told = Config::load(&Sources { file: Some(file.clone()), ..Sources::default() }).unwrap_err().to_string();
    assert!(told.contains(&format!("{}:2: ", file.display())), "{told}");
    assert!(!told.contains(CANARY), "{told}");
    let absent = Sources { file: Some(directory.path().join("absent.toml")), ..Sources::default() };
    assert!(Config::load(&absent).unwrap_err().to_string().contains("absent.toml: cannot be read"));
}

#[test]
fn secrets_appear_neither_in_debug_output_nor_in_mistakes() {
    let keys = || Catalog::built_in().iter().map(|(key, _)| key.to_owned()).collect::<Vec<_>>();
    for key in keys().into_iter().filter(|key| Catalog::is_secret(key)) {
        let name = format!("CHURND__{}", key.to_uppercase().replace('.', "__"));
        let fitting = match key.as_str() {
            "nats.url" => format!("nats://churnd:{CANARY}@nats:4222"),
            "postgres.url" => format!("postgres://churnd:{CANARY}@db/x?sslmode=verify-full"),
            "sentry.dsn" => format!("https://{CANARY}@sentry.example/1"),
            "nats.nkey_seed" => format!("SU{:A<56}", CANARY.replace('-', "")),
            _ => CANARY.to_owned(),
        };
        for value in [fitting, format!("\u{0}{CANARY} ://@"), format!("{CANARY}://")] {
            let mut sources = with_environment(&[(&name, &value)]);
            if key == "nats.password" {
                sources.environment.push(("CHURND__NATS__USER".to_owned(), "churnd".to_owned()));
            }
            let shown = match Config::load(&sources) {
                Ok(config) => format!("{config:?} {config:#?}"),
                Err(errors) => format!("{errors} {errors:?}"),
            };
            let bare = CANARY.replace('-', "");
            assert!(!shown.contains(CANARY) && !shown.contains(&bare), "{key}: {shown}");
        }
    }
}

#[test]
fn every_setting_that_sounds_like_a_secret_is_one() {
    let sounds = |key: &str| {
        let name = key.rsplit('.').next().unwrap_or(key);
        ["password", "secret", "seed", "dsn", "token", "api_key"].iter().any(|word| name.contains(word))
    };
    let open: Vec<String> = Catalog::built_in()
        .iter()
        .map(|(key, _)| key.to_owned())
        .filter(|key| sounds(key) && !Catalog::is_secret(key))
        .collect();
    assert!(open.is_empty(), "{open:?}");
}

#[test]
fn addresses_that_cannot_be_read_are_told_by_source_but_not_shown() {
    let nats = format!("nats://churnd:{CANARY}@nats:not-a-port");
    let postgres = format!("postgres://churnd:{CANARY}@db:not-a-port/x?sslmode=maybe");
    let sources = with_environment(&[("CHURND__NATS__URL", &nats), ("DATABASE_URL", &postgres)]);
    let told = Config::load(&sources).unwrap_err().to_string();
    assert!(told.contains("environment CHURND__NATS__URL: nats.url"), "{told}");
    assert!(told.contains("environment DATABASE_URL: postgres.url"), "{told}");
    assert!(!told.contains(CANARY), "{told}");
}
