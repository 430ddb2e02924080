//! `churnd notify preview`: what would be sent, for a sample or for alerts of a file, without any server.

use std::{fs, io::Read as _, path::PathBuf};

use anyhow::{Context as _, bail};
use serde_json::Value;

use super::output;
use crate::{
    notify::{
        alert::Alert,
        message::{Notice, Told},
        preview,
        sample::{self, Sample},
        templates,
    },
    store::channels::Templates,
};

/// The subcommands of `churnd notify`.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Show what would be sent for a sample, or for alerts of a file
    Preview(Preview),
}

/// The flags of `churnd notify preview`.
#[derive(Debug, clap::Args)]
pub struct Preview {
    /// Alerts as they stand in the stream, one or several (then a digest); `-` for standard input. Without: a sample
    #[arg(value_name = "ALERTS.json")]
    alerts: Option<PathBuf>,
    /// What kind of channel it is for
    #[arg(long, value_enum, default_value_t = Channel::Email)]
    channel: Channel,
    /// Which sample
    #[arg(long, value_enum, default_value_t = Kind::Raised, conflicts_with = "alerts")]
    kind: Kind,
    /// What to print; without it text for mail, else json
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// A template for the subject
    #[arg(long, value_name = "FILE")]
    template_subject: Option<PathBuf>,
    /// A template for the text
    #[arg(long, value_name = "FILE")]
    template_text: Option<PathBuf>,
    /// A template for the HTML of mail
    #[arg(long, value_name = "FILE")]
    template_html: Option<PathBuf>,
    /// Where links lead: the address of the dashboard; without it there are none
    #[arg(long, value_name = "URL")]
    public_url: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Channel {
    Slack,
    Email,
    Webhook,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Kind {
    Raised,
    Lowered,
    Churned,
    Recovered,
    Anomaly,
    Digest,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    Text,
    Html,
    Json,
}

impl Command {
    /// Runs the subcommand.
    pub(super) fn run(self) -> anyhow::Result<()> {
        let Self::Preview(options) = self;
        options.run()
    }
}

impl Preview {
    fn run(self) -> anyhow::Result<()> {
        let templates = self.templates()?;
        let problems = templates::problems(&templates);
        if !problems.is_empty() {
            bail!("{}", problems.join("\n"));
        }
        let (notice, url) = (self.notice()?, self.public_url.as_deref());
        let usual = if self.channel == Channel::Email { Format::Text } else { Format::Json };
        let shown = match (self.channel, self.format.unwrap_or(usual)) {
            (Channel::Email, Format::Text) => {
                let texts = preview::mail(&templates, &notice, url);
                format!("Subject: {}\n\n{}", texts.subject, texts.text)
            }
            (Channel::Email, Format::Html) => preview::mail(&templates, &notice, url).html,
            (Channel::Email, Format::Json) => {
                let texts = preview::mail(&templates, &notice, url);
                pretty(&serde_json::json!({"subject": texts.subject, "text": texts.text, "html": texts.html}))?
            }
            (Channel::Slack, Format::Text) => text_of(&preview::slack(&templates, &notice, url)),
            (Channel::Slack, Format::Json) => pretty(&preview::slack(&templates, &notice, url))?,
            (Channel::Webhook, Format::Json) => preview::webhook(&notice),
            (Channel::Slack, Format::Html) => bail!("Slack has no HTML: take --format json or text"),
            (Channel::Webhook, _) => bail!("a webhook's body is JSON: take --format json"),
        };
        Ok(output::line(shown.trim_end())?)
    }

    fn templates(&self) -> anyhow::Result<Templates> {
        let read = |file: &Option<PathBuf>| {
            let text = file.as_ref().map(|file| {
                fs::read_to_string(file).with_context(|| format!("cannot read the template {}", file.display()))
            });
            text.transpose()
        };
        Ok(Templates {
            subject: read(&self.template_subject)?.unwrap_or_default(),
            text: read(&self.template_text)?.unwrap_or_default(),
            html: read(&self.template_html)?,
        })
    }

    fn notice(&self) -> anyhow::Result<Notice> {
        let Some(file) = &self.alerts else {
            return Ok(sample::notice(match self.kind {
                Kind::Raised => Sample::Raised,
                Kind::Lowered => Sample::Lowered,
                Kind::Churned => Sample::Churned,
                Kind::Recovered => Sample::Recovered,
                Kind::Anomaly => Sample::Anomaly,
                Kind::Digest => Sample::Digest,
            }));
        };
        let mut text = String::new();
        if file.as_os_str() == "-" {
            std::io::stdin().read_to_string(&mut text).context("cannot read standard input")?;
        } else {
            text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        }
        let alerts = alerts_in(&text).with_context(|| format!("{} holds no alerts", file.display()))?;
        let key = match alerts.as_slice() {
            [] => bail!("{} holds no alerts", file.display()),
            [alert] => alert.id.clone(),
            _ => "digest-preview".to_owned(),
        };
        Ok(Notice { key, alerts: alerts.into_iter().map(|alert| Told { alert, company: None }).collect() })
    }
}

/// Alerts one after the other, in a list, or under `alerts` as in a webhook.
fn alerts_in(text: &str) -> anyhow::Result<Vec<Alert>> {
    let mut alerts = Vec::new();
    for value in serde_json::Deserializer::from_str(text).into_iter::<Value>() {
        let listed = match value? {
            Value::Array(list) => list,
            Value::Object(mut object) => match object.remove("alerts") {
                Some(Value::Array(list)) => list,
                _ => vec![Value::Object(object)],
            },
            other => vec![other],
        };
        for value in listed {
            alerts.push(serde_json::from_value(value)?);
        }
    }
    Ok(alerts)
}

fn pretty(value: &Value) -> anyhow::Result<String> {
    Ok(serde_json::to_string_pretty(value)?)
}

/// What blocks say, one after the other.
fn text_of(message: &Value) -> String {
    let said = |value: &Value| value["text"].as_str().or(value["text"]["text"].as_str()).map(str::to_owned);
    let blocks = message["blocks"].as_array().into_iter().flatten();
    let lines = blocks.flat_map(|block| {
        let parts = ["fields", "elements"].iter().filter_map(|name| block[*name].as_array()).flatten();
        std::iter::once(block).chain(parts).filter_map(said).collect::<Vec<_>>()
    });
    lines.collect::<Vec<_>>().join("\n\n")
}
