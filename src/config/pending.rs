//! The settings of the two servers.

use std::path::PathBuf;

use secrecy::SecretString;
use serde::Deserialize;

/// pending
#[derive(Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StreamConfig {
    pub url: String,
    pub user: Option<String>,
    pub password: Option<SecretString>,
    pub credentials_file: Option<PathBuf>,
    pub tls_required: bool,
    pub tls_ca_file: Option<PathBuf>,
    pub tls_certificate_file: Option<PathBuf>,
    pub tls_key_file: Option<PathBuf>,
    pub connect_timeout_seconds: u64,
    pub connect_patience_seconds: u64,
}

impl std::fmt::Debug for StreamConfig {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("StreamConfig").finish_non_exhaustive()
    }
}

/// pending
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StoreConfig {
    pub url: SecretString,
    pub ca_file: Option<PathBuf>,
    pub pool_size: usize,
    pub connect_timeout_seconds: u64,
    pub statement_timeout_seconds: u64,
    pub lease_seconds: u64,
    pub application_name: String,
}
