//! TLS for HTTP: the certificate and key that are in force, and how they are replaced without a restart.
//!
//! A file that cannot be used changes nothing: the certificate in force stays, and the error says why.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};

use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

use super::validity;
use crate::event::time::Timestamp;

/// Why a certificate cannot be used; begins with the setting.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file cannot be read, or holds nothing of what it should.
    #[error("{setting} is {}: {problem}", file.display())]
    File {
        /// The setting that names the file.
        setting: &'static str,
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The two do not go together, or the certificate is none.
    #[error("http.tls_certificate_file and http.tls_key_file cannot be used together: {0}")]
    Mismatch(#[source] rustls::Error),
}

/// The certificate in force; clones share it.
#[derive(Clone)]
pub struct Certificates(Arc<Inner>);

struct Inner {
    certificate_file: PathBuf,
    key_file: PathBuf,
    current: RwLock<Current>,
}

#[derive(Clone)]
struct Current {
    config: Arc<ServerConfig>,
    expires: Option<Timestamp>,
}

impl Certificates {
    /// Reads both files.
    pub fn load(certificate_file: &Path, key_file: &Path) -> Result<Self, CertificateError> {
        Ok(Self(Arc::new(Inner {
            current: RwLock::new(read(certificate_file, key_file)?),
            certificate_file: certificate_file.to_owned(),
            key_file: key_file.to_owned(),
        })))
    }

    /// Reads both files again; connections from now on get what they hold.
    pub fn reload(&self) -> Result<(), CertificateError> {
        let fresh = read(&self.0.certificate_file, &self.0.key_file)?;
        *self.0.current.write().unwrap_or_else(PoisonError::into_inner) = fresh;
        Ok(())
    }

    /// When the certificate in force ends, if it says so readably.
    pub fn expires(&self) -> Option<Timestamp> {
        self.current().expires
    }

    /// What the next handshake is made with.
    pub(super) fn config(&self) -> Arc<ServerConfig> {
        self.current().config
    }

    fn current(&self) -> Current {
        self.0.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl fmt::Debug for Certificates {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Certificates").field("file", &self.0.certificate_file).finish_non_exhaustive()
    }
}

fn read(certificate_file: &Path, key_file: &Path) -> Result<Current, CertificateError> {
    let problem_in =
        |setting, file: &Path, problem: String| CertificateError::File { setting, file: file.to_owned(), problem };
    let chain = CertificateDer::pem_file_iter(certificate_file)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| problem_in("http.tls_certificate_file", certificate_file, error.to_string()))?;
    let Some(first) = chain.first() else {
        return Err(problem_in("http.tls_certificate_file", certificate_file, "it holds no certificate".to_owned()));
    };
    let expires = validity::not_after(first);
    let key = PrivateKeyDer::from_pem_file(key_file)
        .map_err(|error| problem_in("http.tls_key_file", key_file, error.to_string()))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the provider knows the versions")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(CertificateError::Mismatch)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Current { config: Arc::new(config), expires })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn write_pair(dir: &Path) -> (PathBuf, PathBuf) {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let (certificate, key) = (dir.join("cert.pem"), dir.join("key.pem"));
        fs::write(&certificate, made.cert.pem()).unwrap();
        fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        (certificate, key)
    }

    #[test]
    fn files_are_read_again_and_bad_ones_change_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let (certificate, key) = write_pair(dir.path());
        let certificates = Certificates::load(&certificate, &key).unwrap();
        assert!(certificates.expires().is_some());
        let first = certificates.config();
        write_pair(dir.path());
        certificates.reload().unwrap();
        let second = certificates.config();
        assert!(!Arc::ptr_eq(&first, &second));
        fs::write(&certificate, "nothing").unwrap();
        let said = certificates.reload().unwrap_err().to_string();
        assert!(said.starts_with("http.tls_certificate_file is ") && said.contains("cert.pem"), "{said}");
        assert!(Arc::ptr_eq(&second, &certificates.config()));
    }

    #[test]
    fn a_key_of_another_certificate_is_refused() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (certificate, _) = write_pair(one.path());
        let (_, key) = write_pair(other.path());
        let said = Certificates::load(&certificate, &key).unwrap_err().to_string();
        assert!(said.contains("cannot be used together"), "{said}");
        let said = Certificates::load(&certificate, &one.path().join("none.pem")).unwrap_err().to_string();
        assert!(said.starts_with("http.tls_key_file is "), "{said}");
    }
}
