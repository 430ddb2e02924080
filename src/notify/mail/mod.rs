//! Mail, by a mail server of the operator's or by SendGrid.

mod sendgrid; // over HTTP
mod smtp; // to a mail server

use lettre::{Address, message::Mailbox};
use secrecy::SecretString;

use super::{
    answer::{gone, refused},
    message::Wording,
    send::{Failure, Receipt},
    settings::SenderConfig,
    templates::Texts,
};
use crate::{event::time::Timestamp, web::Web};

/// A mail, ready to be sent.
struct Mail<'a> {
    from: &'a Mailbox,
    to: Vec<Mailbox>,
    /// The same at each try.
    message_id: String,
    key: String,
    list_id: String,
    texts: &'a Texts,
    at: Timestamp,
}

/// Which way mail goes.
pub(super) enum Postman {
    SendGrid { from: Mailbox, api_key: SecretString, url: String },
    Smtp { from: Mailbox, smtp: smtp::Smtp },
    None { why: &'static str },
}

impl Postman {
    /// SendGrid if there is a key for it, else the mail server if one is named.
    pub(super) fn of(config: &SenderConfig) -> anyhow::Result<Self> {
        if config.sendgrid.api_key.is_none() && config.smtp.host.is_none() {
            return Ok(Self::None { why: "no mail can be sent: set smtp.host or sendgrid.api_key" });
        }
        let Some(from) = &config.sending.mail_from else {
            return Ok(Self::None { why: "no mail can be sent: set sending.mail_from" });
        };
        let from: Mailbox = from.parse()?;
        if let Some(api_key) = &config.sendgrid.api_key {
            return Ok(Self::SendGrid { from, api_key: api_key.clone(), url: config.sendgrid.url.clone() });
        }
        let host = config.smtp.host.as_deref().unwrap_or_default();
        let smtp = smtp::Smtp::new(host, &config.smtp, config.sending.timeout())?;
        Ok(Self::Smtp { from, smtp })
    }

    /// Sends the texts to all addresses in one mail.
    pub(super) async fn send(
        &self,
        web: &Web,
        to: &[String],
        wording: &Wording,
        texts: &Texts,
        at: Timestamp,
    ) -> Result<Receipt, Failure> {
        match self {
            Self::None { why } => Err(gone(*why)),
            Self::SendGrid { from, api_key, url } => {
                sendgrid::send(web, api_key, url, &Mail::new(from, to, wording, texts, at)?).await
            }
            Self::Smtp { from, smtp } => smtp.send(&Mail::new(from, to, wording, texts, at)?).await,
        }
    }
}

impl<'a> Mail<'a> {
    fn new(
        from: &'a Mailbox,
        to: &[String],
        wording: &Wording,
        texts: &'a Texts,
        at: Timestamp,
    ) -> Result<Self, Failure> {
        let address = |text: &String| text.trim().parse::<Address>().map(|address| Mailbox::new(None, address));
        let to: Vec<Mailbox> =
            to.iter().map(address).collect::<Result<_, _>>().map_err(|_| gone("an address of the channel is none"))?;
        if to.is_empty() {
            return Err(refused("the channel names no address"));
        }
        let plain = |sign: &char| sign.is_ascii_alphanumeric() || matches!(sign, '-' | '_' | '.');
        let key: String = wording.key.chars().filter(plain).take(128).collect();
        let domain = from.email.domain();
        let account = &wording.account;
        Ok(Self {
            from,
            to,
            message_id: format!("<{key}@{domain}>"),
            list_id: format!("churnd alerts of {account} <{account}.churnd.{domain}>"),
            key,
            texts,
            at,
        })
    }
}
