//! Sends: one try to bring a notice to a target, whatever kind it is of.

use std::{fmt, sync::Arc};

use anyhow::Context as _;

use super::{
    mail::Postman,
    message::{Notice, Wording},
    send::{Failure, Receipt},
    settings::{SenderConfig, SlackConfig},
    slack::{self, Place, send_by_app, send_by_hook},
    templates, webhook,
};
use crate::{
    event::time::Timestamp,
    store::channels::{Target, Templates},
    web::{Limits, Web, guard::GuardedWeb},
};

/// The most that is read of an answer.
const ANSWER_BYTES: usize = 64 * 1024;

/// Sends messages; clones share their connections.
#[derive(Clone)]
pub struct Sender(Arc<Parts>);

struct Parts {
    /// For whom the operator names.
    web: Web,
    /// For whom customers name.
    guarded: GuardedWeb,
    postman: Postman,
    slack: SlackConfig,
    public_url: Option<String>,
    now: Arc<dyn Fn() -> Timestamp + Send + Sync>,
}

impl Sender {
    /// Puts together what is needed; nothing is connected to.
    pub fn new(config: SenderConfig, now: Arc<dyn Fn() -> Timestamp + Send + Sync>) -> anyhow::Result<Self> {
        let limits = Limits { time: config.sending.timeout(), body_bytes: ANSWER_BYTES };
        let parts = Parts {
            web: Web::new(limits)?,
            guarded: GuardedWeb::new(limits, config.sending.internal_receivers.clone())?,
            postman: Postman::of(&config).context("mail cannot be sent")?,
            slack: config.slack,
            public_url: config.public_url,
            now,
        };
        Ok(Self(Arc::new(parts)))
    }

    /// One try. Where messages can be replaced, the one that `replaces` names is.
    pub async fn send(
        &self,
        target: &Target,
        templates: &Templates,
        notice: &Notice,
        replaces: Option<&str>,
    ) -> Result<Receipt, Failure> {
        let parts = &*self.0;
        let now = (parts.now)();
        let wording = || Wording::of(notice, parts.public_url.as_deref());
        match target {
            Target::SlackWebhook { url } => {
                let message = slack::message(templates, &wording());
                send_by_hook(&parts.web, &parts.slack.hooks_url, url, &message, now).await
            }
            Target::SlackApp { token, channel } => {
                let place = Place { api_url: &parts.slack.api_url, token, channel };
                let message = slack::message(templates, &wording());
                send_by_app(&parts.web, &place, &message, &notice.key, replaces, now).await
            }
            Target::Email { to } => {
                let wording = wording();
                let texts = templates::render(templates, &wording);
                parts.postman.send(&parts.web, to, &wording, &texts, now).await
            }
            Target::Webhook { url, secrets } => webhook::send(&parts.guarded, url, secrets, notice, now).await,
        }
    }
}

impl fmt::Debug for Sender {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Sender")
    }
}
