//! A mail server: one connection for each mail, encrypted unless the server is on this machine.

use std::{
    fs,
    time::{Duration, UNIX_EPOCH},
};

use anyhow::Context as _;
use lettre::{
    AsyncSmtpTransport, AsyncTransport as _, Message, Tokio1Executor,
    message::{
        MultiPart,
        header::{HeaderName, HeaderValue},
    },
    transport::smtp::{
        Error as SmtpError,
        authentication::Credentials,
        client::{Certificate, Tls, TlsParameters},
    },
};
use secrecy::ExposeSecret as _;

use super::Mail;
use crate::notify::{
    answer::{again, gone, refused, said},
    send::{Failure, Receipt},
    settings::{SmtpConfig, SmtpTls},
};

/// The way to a mail server.
pub(in crate::notify) struct Smtp {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    host: String,
    timeout: Duration,
}

impl Smtp {
    pub(super) fn new(host: &str, config: &SmtpConfig, timeout: Duration) -> anyhow::Result<Self> {
        let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(host)
            .port(config.port())
            .timeout(Some(timeout))
            .tls(match config.tls {
                SmtpTls::None => Tls::None,
                SmtpTls::Implicit => Tls::Wrapper(parameters(host, config)?),
                SmtpTls::StartTls => Tls::Required(parameters(host, config)?),
            });
        if let (Some(user), Some(password)) = (&config.user, &config.password) {
            builder = builder.credentials(Credentials::new(user.clone(), password.expose_secret().to_owned()));
        }
        Ok(Self { transport: builder.build(), host: host.to_owned(), timeout })
    }

    pub(super) async fn send(&self, mail: &Mail<'_>) -> Result<Receipt, Failure> {
        let message = message(mail).map_err(|error| refused(format!("the mail cannot be put together: {error}")))?;
        match tokio::time::timeout(self.timeout, self.transport.send(message)).await {
            Ok(Ok(_)) => Ok(Receipt::default()),
            Ok(Err(error)) => Err(self.judge(&error)),
            Err(_) => Err(again(format!("{} did not answer within {} s", self.host, self.timeout.as_secs()), None)),
        }
    }

    fn judge(&self, error: &SmtpError) -> Failure {
        let told = said(innermost(error).as_bytes());
        let Some(code) = error.status().map(|code| code.to_string()) else {
            // lettre finds out by itself that the server offers no way to log in that it knows, or no STARTTLS.
            let reason = format!("{}: {told}", self.host);
            return if error.is_client() { gone(reason) } else { again(reason, None) };
        };
        let reason = format!("{} answers {code} {told}", self.host);
        match code.as_str() {
            "530" | "534" | "535" | "538" => gone(format!("{reason}: check smtp.user and smtp.password")),
            _ if error.is_permanent() => refused(reason),
            _ => again(reason, None),
        }
    }
}

fn parameters(host: &str, config: &SmtpConfig) -> anyhow::Result<TlsParameters> {
    let mut parameters = TlsParameters::builder(host.to_owned());
    if let Some(file) = &config.ca_file {
        let told = || format!("smtp.ca_file `{}` cannot be used", file.display());
        let pem = fs::read(file).with_context(told)?;
        parameters = parameters.add_root_certificate(Certificate::from_pem(&pem).with_context(told)?);
    }
    parameters.build_rustls().context("smtp.tls cannot be spoken")
}

fn message(mail: &Mail<'_>) -> Result<Message, lettre::error::Error> {
    let header =
        |name: &'static str, value: &str| HeaderValue::new(HeaderName::new_from_ascii_str(name), value.to_owned());
    let millis = u64::try_from(mail.at.millis()).unwrap_or_default();
    let mut builder = Message::builder()
        .from(mail.from.clone())
        .subject(mail.texts.subject.as_str())
        .date(UNIX_EPOCH + Duration::from_millis(millis))
        .message_id(Some(mail.message_id.clone()))
        .raw_header(header("X-Churnd-Key", &mail.key))
        .raw_header(header("Auto-Submitted", "auto-generated"))
        .raw_header(header("List-Id", &mail.list_id));
    for address in &mail.to {
        builder = builder.to(address.clone());
    }
    builder.multipart(MultiPart::alternative_plain_html(mail.texts.text.clone(), mail.texts.html.clone()))
}

/// The last of the causes, which says most.
fn innermost(error: &SmtpError) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}
