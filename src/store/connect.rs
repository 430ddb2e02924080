//! The way to Postgres: connection string, TLS, timeouts, keepalives, and the pool.
//!
//! Opens no connection before one is asked for. TLS is used when `sslmode` asks for it and then always verifies
//! certificate and name: a mode that can be talked down to plain text is refused rather than guessed at.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use deadpool_postgres::{
    Manager, ManagerConfig, Pool, RecyclingMethod, Runtime,
    tokio_postgres::{
        self,
        config::{Host, SslMode, SslNegotiation},
    },
};
use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use tokio_postgres_rustls::MakeRustlsConnect;

use super::{
    error::StoreError,
    tx::{ACCOUNT, EVERYBODY},
};

/// Where Postgres is and how long to wait for it.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// `postgres://user:password@host:5432/database?sslmode=verify-full`.
    pub url: SecretString,
    /// PEM file with the certificates that the server's may be signed by; the system's when absent.
    pub ca_file: Option<PathBuf>,
    /// Our own certificate, PEM; needs `key_file`.
    pub certificate_file: Option<PathBuf>,
    /// The key of our own certificate, PEM.
    pub key_file: Option<PathBuf>,
    /// Connections kept at the most, besides the one that each instance holds its leases with.
    pub pool_size: usize,
    /// How long connecting, and waiting for a free connection, may take.
    pub connect_timeout_seconds: u64,
    /// How long to go on trying at the start before giving up.
    pub connect_patience_seconds: u64,
    /// How long one statement may take; a whole transaction may take twice that.
    pub statement_timeout_seconds: u64,
    /// How long a partition stays ours after the last sign of life.
    pub lease_seconds: u64,
    /// What the connections are called in `pg_stat_activity`.
    pub application_name: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            url: SecretString::from("postgres://churnd@127.0.0.1:5432/churnd"),
            ca_file: None,
            certificate_file: None,
            key_file: None,
            pool_size: 8,
            connect_timeout_seconds: 10,
            connect_patience_seconds: 30,
            statement_timeout_seconds: 30,
            lease_seconds: 10,
            application_name: "churnd".to_owned(),
        }
    }
}

impl Config {
    /// Everything that cannot work, each as a sentence.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if let Err(StoreError::Config(problem)) = Target::read(self) {
            problems.push(problem);
        }
        let numbers = [
            ("pool_size", self.pool_size as u64, 2, 1_000),
            ("connect_timeout_seconds", self.connect_timeout_seconds, 1, 300),
            ("connect_patience_seconds", self.connect_patience_seconds, 0, 3_600),
            ("statement_timeout_seconds", self.statement_timeout_seconds, 1, 3_600),
            ("lease_seconds", self.lease_seconds, 1, 600),
        ];
        for (name, value, least, most) in numbers {
            if !(least..=most).contains(&value) {
                problems.push(format!("postgres.{name} is {value}: it must lie between {least} and {most}"));
            }
        }
        for (setting, file) in
            [("ca_file", &self.ca_file), ("certificate_file", &self.certificate_file), ("key_file", &self.key_file)]
        {
            if let Some(file) = file.as_ref().filter(|file| !file.is_file()) {
                problems.push(format!("postgres.{setting}: there is no file {}", file.display()));
            }
        }
        if self.certificate_file.is_some() != self.key_file.is_some() {
            problems.push(
                "postgres.certificate_file needs postgres.key_file beside it, and the other way round".to_owned(),
            );
        }
        problems
    }

    /// How long to go on trying at the start before giving up.
    pub fn connect_patience(&self) -> Duration {
        Duration::from_secs(self.connect_patience_seconds)
    }

    pub(super) fn transaction_timeout(&self) -> Duration {
        Duration::from_secs(self.statement_timeout_seconds.saturating_mul(2))
    }

    /// Builds the pool; nothing is connected yet.
    pub(super) fn pool(&self) -> Result<Pool, StoreError> {
        if let Some(problem) = self.problems().into_iter().next() {
            return Err(StoreError::Config(problem));
        }
        let mut target = Target::read(self)?;
        if target.is_exposed() {
            tracing::warn!(
                "postgres.url asks for a connection to another host without TLS: password and data can be read on the way; \
                 write sslmode=verify-full"
            );
        }
        self.complete(&mut target.postgres);
        let direct = target.postgres.get_ssl_negotiation() == SslNegotiation::Direct;
        let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let manager = match target.tls {
            Tls::Off => Manager::from_config(target.postgres, tokio_postgres::NoTls, recycling),
            Tls::Verified { ca_file } => {
                let tls = self.verified_tls(ca_file.as_deref().or(self.ca_file.as_deref()), direct)?;
                Manager::from_config(target.postgres, tls, recycling)
            }
        };
        let patience = Some(Duration::from_secs(self.connect_timeout_seconds));
        Pool::builder(manager)
            .max_size(self.pool_size)
            .runtime(Runtime::Tokio1)
            .wait_timeout(patience)
            .create_timeout(patience)
            .recycle_timeout(patience)
            .build()
            .map_err(|_| StoreError::Config("the connection pool cannot be built".to_owned()))
    }

    /// The password would cross a network that anybody may listen to; only said where it was asked for.
    pub fn is_exposed(&self) -> bool {
        Target::read(self).is_ok_and(|target| target.is_exposed())
    }

    /// TLS that verifies the chain and the name.
    fn verified_tls(&self, ca_file: Option<&Path>, direct: bool) -> Result<MakeRustlsConnect, StoreError> {
        let roots = match ca_file {
            Some(file) => roots_of_file(file)?,
            None => roots_of_system()?,
        };
        let builder = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| StoreError::Config(format!("TLS cannot be set up: {error}")))?
            .with_root_certificates(roots);
        let mut config = match (&self.certificate_file, &self.key_file) {
            (Some(certificate), Some(key)) => {
                let chain = certificates_of("postgres.certificate_file", certificate)?;
                let key =
                    PrivateKeyDer::from_pem_file(key).map_err(|error| unusable("postgres.key_file", key, &error))?;
                builder
                    .with_client_auth_cert(chain, key)
                    .map_err(|error| unusable("postgres.certificate_file", certificate, &error))?
            }
            _ => builder.with_no_client_auth(),
        };
        if direct {
            config.alpn_protocols = vec![b"postgresql".to_vec()];
        }
        Ok(MakeRustlsConnect::new(config))
    }

    /// Adds what every connection needs; options of the URL come last, so they win.
    fn complete(&self, postgres: &mut tokio_postgres::Config) {
        let statement = self.statement_timeout_seconds;
        // A process that was stopped in the middle of a transaction must not hold its locks: the others wait for them.
        let idle = statement.min(15);
        let mut options = format!(
            "-c statement_timeout={statement}s -c lock_timeout={statement}s \
             -c idle_in_transaction_session_timeout={idle}s -c synchronous_commit=on \
             -c plan_cache_mode=force_generic_plan -c TimeZone=UTC \
             -c tcp_keepalives_idle=5 -c tcp_keepalives_interval=2 -c tcp_keepalives_count=3 \
             -c tcp_user_timeout=15s -c {ACCOUNT}={EVERYBODY}"
        );
        if let Some(own) = postgres.get_options() {
            options.push(' ');
            options.push_str(own);
        }
        postgres
            .options(options)
            .connect_timeout(Duration::from_secs(self.connect_timeout_seconds))
            .keepalives(true)
            .keepalives_idle(Duration::from_secs(5))
            .keepalives_interval(Duration::from_secs(2))
            .keepalives_retries(3)
            .tcp_user_timeout(Duration::from_secs(15));
        if postgres.get_application_name().is_none() {
            postgres.application_name(&self.application_name);
        }
    }
}

/// A connection string, read.
struct Target {
    postgres: tokio_postgres::Config,
    tls: Tls,
}

#[derive(Debug, PartialEq, Eq)]
enum Tls {
    Off,
    Verified { ca_file: Option<PathBuf> },
}

impl Target {
    fn read(config: &Config) -> Result<Self, StoreError> {
        let taken = TlsParameters::take_from(config.url.expose_secret())?;
        // The library's error may quote a part of a password: it is dropped.
        let mut postgres: tokio_postgres::Config = taken.rest.parse().map_err(|_| {
            StoreError::Config(
                "postgres.url does not read as postgres://user:password@host:5432/database \
                 (characters such as @ : / ? # % in a password must be percent-encoded)"
                    .to_owned(),
            )
        })?;
        if postgres.get_hosts().is_empty() && postgres.get_hostaddrs().is_empty() {
            return Err(StoreError::Config("postgres.url names no host".to_owned()));
        }
        postgres.ssl_mode(if taken.tls == Tls::Off { SslMode::Disable } else { SslMode::Require });
        let target = Self { postgres, tls: taken.tls };
        if target.is_exposed() && !taken.said && target.postgres.get_password().is_some() {
            return Err(StoreError::Config(
                "postgres.url would send a password to another host without TLS: add sslmode=verify-full to it \
                 (or sslmode=disable, if the network in between is yours alone)"
                    .to_owned(),
            ));
        }
        Ok(target)
    }

    /// Leaves this machine, and anybody on the way can read along.
    fn is_exposed(&self) -> bool {
        let hosts_are_local = self.postgres.get_hosts().iter().all(is_local);
        let addresses_are_local = self.postgres.get_hostaddrs().iter().all(std::net::IpAddr::is_loopback);
        self.tls == Tls::Off && !(hosts_are_local && addresses_are_local)
    }
}

fn is_local(host: &Host) -> bool {
    match host {
        Host::Tcp(name) => {
            name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
        }
        Host::Unix(_) => true,
    }
}

/// The parameters about TLS, taken out of a connection string, and the string without them.
struct TlsParameters {
    rest: String,
    tls: Tls,
    said: bool,
}

impl TlsParameters {
    fn take_from(url: &str) -> Result<Self, StoreError> {
        let (head, parameters, separator) = match url.split_once('?') {
            Some((head, query)) if url.contains("://") => (Some(head), query.split('&').collect(), "&"),
            None if url.contains("://") => (Some(url), Vec::new(), "&"),
            _ => (None, url.split_whitespace().collect::<Vec<_>>(), " "),
        };
        let (mut mode, mut ca_file, mut kept) = (None, None, Vec::new());
        for parameter in parameters {
            match parameter.split_once('=') {
                Some(("sslmode", value)) => mode = Some(value),
                Some(("sslrootcert", value)) => ca_file = Some(PathBuf::from(value.replace("%2F", "/"))),
                _ => kept.push(parameter),
            }
        }
        let tls = match mode {
            None | Some("disable") => Tls::Off,
            Some("require" | "verify-ca" | "verify-full") => Tls::Verified { ca_file },
            Some("allow" | "prefer") => {
                return Err(StoreError::Config(
                    "postgres.url asks for sslmode=prefer or allow, which anybody on the way can turn into plain text: \
                     write sslmode=verify-full or sslmode=disable"
                        .to_owned(),
                ));
            }
            Some(_) => {
                return Err(StoreError::Config("postgres.url: sslmode is disable, require or verify-full".to_owned()));
            }
        };
        let kept = kept.join(separator);
        let rest = match head {
            Some(head) if kept.is_empty() => head.to_owned(),
            Some(head) => format!("{head}?{kept}"),
            None => kept,
        };
        Ok(Self { rest, tls, said: mode.is_some() })
    }
}

fn roots_of_file(file: &Path) -> Result<RootCertStore, StoreError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates_of("postgres.ca_file", file)? {
        roots.add(certificate).map_err(|error| unusable("postgres.ca_file", file, &error))?;
    }
    Ok(roots)
}

fn certificates_of(setting: &str, file: &Path) -> Result<Vec<CertificateDer<'static>>, StoreError> {
    let read = CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match read {
        Ok(certificates) if certificates.is_empty() => Err(unusable(setting, file, &"it holds no certificate")),
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(unusable(setting, file, &error)),
    }
}

fn unusable(setting: &str, file: &Path, problem: &dyn std::fmt::Display) -> StoreError {
    StoreError::Config(format!("{setting} {} cannot be used: {problem}", file.display()))
}

fn roots_of_system() -> Result<RootCertStore, StoreError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err(StoreError::Config(
            "the system has no root certificates: install ca-certificates or set postgres.ca_file".to_owned(),
        ));
    }
    Ok(roots)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(url: &str) -> Config {
        Config { url: SecretString::from(url), ..Config::default() }
    }

    #[test]
    fn the_default_configuration_has_no_problems() {
        assert_eq!(Config::default().problems(), Vec::<String>::new());
    }

    #[test]
    fn tls_is_off_unless_asked_for_and_then_verified() {
        for (parameters, tls) in [
            ("?sslmode=disable", Tls::Off),
            ("?sslmode=require", Tls::Verified { ca_file: None }),
            ("?connect_timeout=3&sslmode=verify-full", Tls::Verified { ca_file: None }),
            ("?sslmode=verify-full&sslrootcert=/etc/ca.pem", Tls::Verified { ca_file: Some("/etc/ca.pem".into()) }),
        ] {
            let target = Target::read(&config(&format!("postgres://u:p@db.example:5432/d{parameters}"))).unwrap();
            assert_eq!(target.tls, tls, "{parameters}");
        }
        let target = Target::read(&config("host=db user=u password=p sslmode=verify-full")).unwrap();
        assert_eq!(target.tls, Tls::Verified { ca_file: None });
    }

    #[test]
    fn a_password_leaves_the_machine_in_plain_text_only_where_that_was_asked_for() {
        let refused = |url: &str| Target::read(&config(url)).is_err();
        assert!(refused("postgres://u:p@db.example/d"));
        assert!(refused("postgres://u:p@127.0.0.1,db.example/d"));
        assert!(refused("postgres://u:p@localhost/d?hostaddr=10.0.0.1"));
        for url in [
            "postgres://u:p@127.0.0.1/d",
            "postgres://u:p@localhost/d",
            "postgres://u:p@[::1]/d",
            "postgres://u:p@%2Frun%2Fpostgresql/d",
            "postgres://u@db.example/d",
        ] {
            assert!(!refused(url), "{url}");
        }
        assert!(config("postgres://u:p@db.example/d?sslmode=disable").is_exposed());
        assert!(!config("postgres://u:p@db.example/d?sslmode=verify-full").is_exposed());
        assert!(!config("postgres://u:p@127.0.0.1/d").is_exposed());
    }

    #[test]
    fn modes_that_can_be_talked_down_are_refused() {
        for mode in ["prefer", "allow", "yes"] {
            assert!(Target::read(&config(&format!("postgres://u@db/d?sslmode={mode}"))).is_err(), "{mode}");
        }
    }

    #[test]
    fn no_problem_and_no_debug_output_shows_a_part_of_the_password() {
        for url in [
            "postgres://u:hunter2@db/d",
            "postgres://u:hun?ter2=x@db/d",
            "postgres://u:hunter2@db:port/d",
            "hunter2",
            "postgres://u:hunter2@",
            "postgres://u:p@db/d?hunter2=1",
            "postgres://u:p@db/d?sslmode=hunter2",
        ] {
            let config = config(url);
            let shown = format!("{config:?} {:?}", config.problems());
            assert!(!shown.contains("hunter2") && !shown.contains("ter2"), "{shown}");
        }
    }

    #[test]
    fn impossible_numbers_are_all_named() {
        let config = Config { pool_size: 0, lease_seconds: 0, ..Config::default() };
        assert_eq!(config.problems().len(), 2);
    }

    #[test]
    fn the_url_s_own_options_come_after_ours() {
        let mut postgres = "postgres://u@db/d?options=-c%20statement_timeout%3D5s".parse().unwrap();
        Config::default().complete(&mut postgres);
        assert!(postgres.get_options().unwrap().ends_with(" -c statement_timeout=5s"));
        assert_eq!(postgres.get_application_name(), Some("churnd"));
    }
}
