//! Why a TLS handshake with a server failed, in words that say what to do.
//!
//! Clients wrap the library's error in their own ones; here the chain is searched for it. Knows neither NATS nor Postgres:
//! who asks names its settings.

#[cfg(test)]
pub(crate) mod tests;

use std::{error::Error, io};

use rustls::{AlertDescription, CertificateError};

/// What the settings are called that the advice names.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Where the server's address stands.
    pub url: &'static str,
    /// The file with the authorities that are trusted.
    pub ca_file: &'static str,
    /// The file with our own certificate.
    pub certificate_file: &'static str,
}

/// What is wrong and what to do about it, if an error comes from TLS.
pub fn advice(error: &(dyn Error + 'static), settings: Settings) -> Option<String> {
    use rustls::Error as Tls;
    let Settings { url, ca_file, certificate_file } = settings;
    Some(match cause(error)? {
        Tls::InvalidCertificate(problem) => of_certificate(problem, settings),
        Tls::AlertReceived(
            AlertDescription::CertificateRequired
            | AlertDescription::BadCertificate
            | AlertDescription::UnknownCA
            | AlertDescription::CertificateUnknown
            | AlertDescription::CertificateExpired
            | AlertDescription::AccessDenied
            | AlertDescription::HandshakeFailure,
        ) => format!(
            "the server refused our certificate, or wants one and was given none: set {certificate_file} to one that it accepts"
        ),
        Tls::InvalidMessage(_) => format!(
            "the server does not speak TLS here, though TLS is demanded: switch TLS on at the server, or correct {url}"
        ),
        Tls::NoCertificatesPresented => format!("the server shows no certificate: correct its TLS settings, or {url}"),
        Tls::PeerIncompatible(_) | Tls::AlertReceived(AlertDescription::ProtocolVersion) => {
            "the server speaks neither TLS 1.2 nor 1.3 with a cipher that is still safe: update it".to_owned()
        }
        other => format!("the TLS handshake failed ({other}): look at {url}, {ca_file} and the server's log"),
    })
}

fn of_certificate(problem: &CertificateError, Settings { url, ca_file, .. }: Settings) -> String {
    match problem {
        CertificateError::UnknownIssuer | CertificateError::BadSignature => format!(
            "the server's certificate was not signed by an authority that is trusted here: \
             set {ca_file} to the PEM file of the authority that signed it"
        ),
        CertificateError::NotValidForName => {
            format!("the server's certificate is for another name than {url} says: use a name that stands in it")
        }
        CertificateError::NotValidForNameContext { expected, presented } => {
            let names = if presented.is_empty() { "for no name at all".to_owned() } else { presented.join(", ") };
            format!(
                "the server's certificate is not for `{}`, which {url} says, but {names}: use a name that stands in it, or \
                 have this one added",
                expected.to_str()
            )
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "the server's certificate has expired: renew it (or set this machine's clock)".to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "the server's certificate is not valid yet: set the clock of this machine, or of the one that signed it"
                .to_owned()
        }
        CertificateError::Revoked => "the server's certificate was revoked: replace it".to_owned(),
        other => format!(
            "the server's certificate cannot be used ({other}): give the server one that is meant for servers, \
             signed by the authority in {ca_file}"
        ),
    }
}

/// The library's own error somewhere in the chain; I/O errors hide theirs from `source`.
fn cause<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<rustls::Error>() {
            return Some(found);
        }
        if let Some(inner) = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            return cause(inner);
        }
        next = error.source();
    }
    None
}
