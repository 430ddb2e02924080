//! Every setting: where it may come from, what is allowed, and all mistakes at once.
//!
//! Composes the settings that each module owns; nothing but the commands names this module. The file
//! `config/churnd.toml` is built in: it holds every setting with its default and a sentence, so a setting that does not
//! stand there does not exist. Secrets are [`SecretString`]s and never appear in a message.

mod catalog; // the built-in file: settings, defaults, sentences
mod errors; // what is told about mistakes
mod layers; // one source over the other
mod roles;
mod sources; // where settings come from
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_fields; // which fields a type asks for

use secrecy::SecretString;
use serde::Deserialize;

use self::{catalog::Catalog, layers::Layers};
pub use self::{
    catalog::DEFAULTS,
    errors::{ConfigErrors, Mistake},
    roles::{Role, Roles},
    sources::{Flag, Origin, Sources},
};
use crate::{bridge, notify, pipeline, service, store, stream, telemetry};

/// All settings, checked.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// What this process does.
    pub roles: Roles,
    /// The name of this instance; see [`Self::instance_name`].
    pub instance: Option<String>,
    /// How to reach NATS.
    pub nats: stream::Config,
    /// How to reach Postgres.
    pub postgres: store::Config,
    /// How HTTP is served.
    pub http: bridge::Config,
    /// How events are taken over HTTP.
    pub tracking: bridge::config::TrackingConfig,
    /// How Segment's SDKs are understood.
    pub segment: bridge::config::SegmentConfig,
    /// What the dashboard shows.
    pub dashboard: bridge::config::DashboardConfig,
    /// What is kept of people.
    pub privacy: bridge::config::PrivacyConfig,
    /// Where the rules stand.
    pub rules: pipeline::config::RulesConfig,
    /// How events are worked through.
    pub pipeline: pipeline::config::Config,
    /// How often alerts are raised.
    pub alerts: pipeline::config::AlertsConfig,
    /// When an account's events count as gone.
    pub fleet: pipeline::config::FleetConfig,
    /// How long events are kept.
    pub archive: pipeline::config::ArchiveConfig,
    /// How customers are erased.
    pub erasure: pipeline::config::ErasureConfig,
    /// How log lines are written.
    pub log: telemetry::log::Config,
    /// How long a drain may take.
    pub shutdown: service::lifecycle::Config,
    /// When the daemon counts as stuck.
    pub watchdog: service::vitals::Config,
    /// Stripe's secrets.
    pub stripe: StripeConfig,
    /// How channels are worked on.
    pub notify: notify::settings::NotifyConfig,
    /// How messages are sent.
    pub sending: notify::settings::SendingConfig,
    /// The mail server.
    pub smtp: notify::settings::SmtpConfig,
    /// The mail service.
    pub sendgrid: notify::settings::SendGridConfig,
    /// The Slack app.
    pub slack: notify::settings::SlackConfig,
    /// Where errors are reported to.
    pub sentry: telemetry::sentry::Config,
}

/// The settings under `[stripe]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StripeConfig {
    /// The signing secret of the webhook endpoint.
    pub webhook_secret: Option<SecretString>,
    /// The key for asking Stripe for past events.
    pub api_key: Option<SecretString>,
    /// Where Stripe's API is.
    pub api_url: String,
}

impl Config {
    /// Reads all sources, one over the other, and checks everything before it tells of any mistake.
    pub fn load(sources: &Sources) -> Result<Self, ConfigErrors> {
        let catalog = Catalog::built_in();
        let mut mistakes = Vec::new();
        let layers = Layers::collect(&catalog, sources, &mut mistakes);
        let config: Self = layers.deserialize(&catalog, &mut mistakes);
        let faulty: Vec<String> = mistakes.iter().filter_map(Mistake::key).map(str::to_owned).collect();
        for problem in config.problems() {
            let key = catalog.setting_of(&problem);
            if key.is_none_or(|key| !faulty.iter().any(|other| other == key)) {
                mistakes.push(Mistake::Refused { origin: key.and_then(|key| layers.origin_of(key)), problem });
            }
        }
        if mistakes.is_empty() { Ok(config) } else { Err(ConfigErrors(mistakes)) }
    }

    /// The name of this instance: the configured one, or the host's.
    pub fn instance_name(&self) -> String {
        self.instance.clone().unwrap_or_else(|| {
            let host = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_default();
            let name: String = host.chars().map(|letter| if in_name(letter) { letter } else { '-' }).take(64).collect();
            if name.is_empty() { "churnd".to_owned() } else { name }
        })
    }

    /// What sending messages needs.
    pub fn sender(&self) -> notify::settings::SenderConfig {
        notify::settings::SenderConfig {
            sending: self.sending.clone(),
            smtp: self.smtp.clone(),
            sendgrid: self.sendgrid.clone(),
            slack: self.slack.clone(),
            public_url: self.http.public_url.clone(),
        }
    }

    /// Everything that cannot work, each as a sentence that begins with the setting.
    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if let Some(name) = self.instance.as_ref().filter(|name| name.len() > 64 || !name.chars().all(in_name)) {
            problems.push(format!("instance is `{name}`: it must be 1 to 64 of A-Z, a-z, 0-9, `.`, `_`, `-`"));
        }
        problems.extend(self.nats.problems().iter().map(ToString::to_string));
        problems.extend(self.postgres.problems());
        problems.extend(self.http.problems());
        problems.extend(self.tracking.problems());
        problems.extend(self.segment.problems());
        problems.extend(self.rules.problems());
        problems.extend(self.pipeline.problems());
        problems.extend(self.alerts.problems());
        problems.extend(self.fleet.problems());
        problems.extend(self.archive.problems());
        problems.extend(self.erasure.problems());
        problems.extend(self.notify.problems());
        problems.extend(self.sending.problems());
        problems.extend(self.smtp.problems());
        problems.extend(self.sendgrid.problems());
        problems.extend(self.slack.problems());
        problems.extend(self.log.problems());
        problems.extend(self.sentry.problems());
        problems.extend(self.shutdown.problems());
        problems.extend(self.watchdog.problems());
        problems
    }
}

fn in_name(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || matches!(letter, '.' | '_' | '-')
}
