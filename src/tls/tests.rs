//! Advice for each kind of failure; and an authority for the tests of whoever speaks TLS.

use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair};

use super::*;

const SETTINGS: Settings = Settings { url: "x.url", ca_file: "x.ca_file", certificate_file: "x.certificate_file" };

fn told(error: rustls::Error) -> String {
    // Twice wrapped, as clients do it.
    let wrapped = io::Error::other(io::Error::new(io::ErrorKind::InvalidData, error));
    advice(&wrapped, SETTINGS).unwrap()
}

#[test]
fn the_cause_is_found_however_deep_and_names_the_setting_to_change() {
    for (error, expected) in [
        (CertificateError::UnknownIssuer.into(), "set x.ca_file to the PEM file"),
        (CertificateError::Expired.into(), "has expired: renew it"),
        (CertificateError::NotValidYet.into(), "not valid yet"),
        (CertificateError::NotValidForName.into(), "another name than x.url says"),
        (CertificateError::InvalidPurpose.into(), "meant for servers"),
        (rustls::Error::AlertReceived(AlertDescription::CertificateRequired), "set x.certificate_file"),
        (rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType), "does not speak TLS here"),
    ] {
        let told = told(error);
        assert!(told.contains(expected), "{told}");
    }
}

#[test]
fn other_errors_are_none_of_ours() {
    assert_eq!(advice(&io::Error::other("cut"), SETTINGS), None);
}

/// Signs certificates for tests.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    dir: tempfile::TempDir,
}

/// A certificate and its key, as files.
pub(crate) struct Pair {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

impl Authority {
    /// A new one that nobody knows yet.
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("ca.pem"), issuer.pem()).unwrap();
        Self { issuer, dir }
    }

    /// Where its own certificate stands.
    pub(crate) fn file(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A certificate for a server or client of these names, as changed by `change`.
    pub(crate) fn sign(&self, file: &str, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Pair {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, file);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let signed = params.signed_by(&key, &self.issuer).unwrap();
        let pair = Pair {
            certificate: self.dir.path().join(format!("{file}.pem")),
            key: self.dir.path().join(format!("{file}.key")),
        };
        std::fs::write(&pair.certificate, signed.pem()).unwrap();
        std::fs::write(&pair.key, key.serialize_pem()).unwrap();
        pair
    }
}
