//! `churnd channel`: where an account's alerts go. Secrets come from a file or standard input and are never shown again.

use std::{fs, io, path::PathBuf, time::Duration};

use anyhow::{Context as _, bail, ensure};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{connect, output, settings::Settings};
use crate::{
    event::ids::AccountId,
    notify::{sample, templates},
    service::clock::Clock,
    store::{
        Store,
        channels::{
            Channel, ChannelChange, ChannelKind, NewChannel, PAUSED_BY_HAND, QuietHours, Settings as Taking, Target,
            Templates, new_webhook_secret,
        },
        deliveries::{DeliveryState, NewDelivery},
    },
};

/// How long a test waits for its result.
const TEST_PATIENCE: Duration = Duration::from_secs(60);

/// What can be done with channels.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Add a channel; secrets are read from a file or standard input
    Add(Add),
    /// List an account's channels
    List(Of),
    /// Change what a channel takes, when, or its secret
    Set(Set),
    /// Send nothing until it is resumed; its alerts wait
    Pause(Named),
    /// Send again, what waited first
    Resume(Named),
    /// Remove a channel, its secrets and what it had not sent
    Remove(Named),
    /// Send a sample and wait until it arrived
    Test(Named),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Kind {
    /// Slack: an incoming webhook's URL, or a bot token and --channel
    Slack,
    /// Mail to --to
    Email,
    /// Signed messages to a URL
    Webhook,
}

/// Whose channels.
#[derive(Debug, clap::Args)]
pub struct Of {
    /// Whose channels
    #[arg(long, value_parser = output::account)]
    account: AccountId,
    /// Print a line of JSON for each
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    settings: Settings,
}

/// Which channel.
#[derive(Debug, clap::Args)]
pub struct Named {
    /// Its name or id
    channel: String,
    /// Whose channel
    #[arg(long, value_parser = output::account)]
    account: AccountId,
    #[command(flatten)]
    settings: Settings,
}

/// Which alerts a channel takes, and when.
#[derive(Debug, clap::Args)]
struct What {
    /// Alerts whose level before or after is at least this: low, medium or high
    #[arg(long, value_name = "LEVEL")]
    minimum_level: Option<String>,
    /// Customers who bring at least this a month, in minor units; `none` for all
    #[arg(long, value_name = "AMOUNT")]
    minimum_mrr: Option<String>,
    /// When nothing is sent: `20:00-08:00 Europe/Berlin`; `none` for never
    #[arg(long, value_name = "HOURS")]
    quiet_hours: Option<String>,
    /// The most messages in any hour; `none` for no limit
    #[arg(long, value_name = "N")]
    per_hour: Option<String>,
    /// The most messages about one customer in any hour; `none` for no limit
    #[arg(long, value_name = "N")]
    per_customer_per_hour: Option<String>,
    /// From how many alerts at once on they are sent in one message; `none` for never
    #[arg(long, value_name = "N")]
    digest_after: Option<String>,
    /// A file with a template for the subject
    #[arg(long, value_name = "FILE")]
    subject_template: Option<PathBuf>,
    /// A file with a template for plain text
    #[arg(long, value_name = "FILE")]
    text_template: Option<PathBuf>,
    /// A file with a template for the HTML of mails
    #[arg(long, value_name = "FILE")]
    html_template: Option<PathBuf>,
}

/// The flags of `churnd channel add`.
#[derive(Debug, clap::Args)]
pub struct Add {
    /// What it is called
    name: String,
    /// Whose channel
    #[arg(long, value_parser = output::account)]
    account: AccountId,
    /// Of which kind
    #[arg(long, value_enum)]
    kind: Kind,
    /// The file with the URL, or with Slack's bot token; `-`, or no flag, for standard input
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
    /// The Slack channel, with a bot token
    #[arg(long, value_name = "CHANNEL")]
    channel: Option<String>,
    /// An address to send mail to; may be given several times
    #[arg(long, value_name = "ADDRESS")]
    to: Vec<String>,
    #[command(flatten)]
    what: What,
    #[command(flatten)]
    settings: Settings,
}

/// The flags of `churnd channel set`.
#[derive(Debug, clap::Args)]
pub struct Set {
    /// Its name or id
    channel: String,
    /// Whose channel
    #[arg(long, value_parser = output::account)]
    account: AccountId,
    /// Another name
    #[arg(long)]
    name: Option<String>,
    /// The file with another URL, or another bot token; `-` for standard input
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
    #[command(flatten)]
    what: What,
    #[command(flatten)]
    settings: Settings,
}

impl Command {
    /// Runs the subcommand.
    pub(super) async fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Add(options) => options.run().await,
            Self::List(options) => options.list().await,
            Self::Set(options) => options.run().await,
            Self::Pause(named) => named.pause().await,
            Self::Resume(named) => named.resume().await,
            Self::Remove(named) => named.remove().await,
            Self::Test(named) => named.test().await,
        }
    }
}

impl Add {
    async fn run(self) -> anyhow::Result<()> {
        let store = connect::store(&self.settings.load()?).await?;
        let (mut taking, mut templates) = (Taking::default(), Templates::default());
        self.what.apply(&mut taking, &mut templates)?;
        let (target, made) = self.target()?;
        let new = NewChannel { name: self.name, target, settings: taking, templates };
        refuse(new.problems())?;
        let id = store.add_channel(&self.account, &new).await?;
        output::line(format!("added the channel {} ({id})", new.name))?;
        if let Some(secret) = made {
            output::line(secret.expose_secret())?;
            eprintln!("the receiver checks signatures with this secret; keep it now: it is not shown again");
        }
        Ok(())
    }

    /// The target, and a secret that was made for it.
    fn target(&self) -> anyhow::Result<(Target, Option<SecretString>)> {
        ensure!(self.to.is_empty() || self.kind == Kind::Email, "--to goes with --kind email only");
        ensure!(self.channel.is_none() || self.kind == Kind::Slack, "--channel goes with --kind slack only");
        let secret = || read_secret(self.secret_file.as_ref());
        Ok(match (self.kind, &self.channel) {
            (Kind::Email, _) => (Target::Email { to: self.to.clone() }, None),
            (Kind::Slack, None) => (Target::SlackWebhook { url: secret()? }, None),
            (Kind::Slack, Some(channel)) => (Target::SlackApp { token: secret()?, channel: channel.clone() }, None),
            (Kind::Webhook, _) => {
                let made = new_webhook_secret();
                (Target::Webhook { url: secret()?, secrets: vec![made.clone()] }, Some(made))
            }
        })
    }
}

impl Set {
    async fn run(self) -> anyhow::Result<()> {
        let store = connect::store(&self.settings.load()?).await?;
        let channel = find(&store, &self.account, &self.channel).await?;
        let (mut taking, mut templates) = (channel.settings.clone(), channel.templates.clone());
        self.what.apply(&mut taking, &mut templates)?;
        let target = match (&self.secret_file, channel.target) {
            (None, _) => None,
            (Some(_), Target::Email { .. }) => bail!("a channel for mail has no secret"),
            (file, Target::SlackWebhook { .. }) => Some(Target::SlackWebhook { url: read_secret(file.as_ref())? }),
            (file, Target::SlackApp { channel, .. }) => {
                Some(Target::SlackApp { token: read_secret(file.as_ref())?, channel })
            }
            (file, Target::Webhook { secrets, .. }) => {
                Some(Target::Webhook { url: read_secret(file.as_ref())?, secrets })
            }
        };
        let change = ChannelChange { name: self.name, target, settings: Some(taking), templates: Some(templates) };
        refuse(change.problems())?;
        ensure!(store.change_channel(&self.account, channel.id, &change).await?, "the channel is gone");
        output::line("changed")?;
        Ok(())
    }
}

impl Of {
    async fn list(self) -> anyhow::Result<()> {
        let store = connect::store(&self.settings.load()?).await?;
        let channels = store.list_channels(&self.account).await?;
        if self.json {
            channels.iter().try_for_each(|channel| output::json(&as_json(channel)))?;
        } else if channels.is_empty() {
            eprintln!("account {} has no channels: add one with `churnd channel add`", self.account);
        } else {
            let rows: Vec<_> = channels.iter().map(as_row).collect();
            output::table(["NAME", "KIND", "TO", "LEVEL", "STATE", "ID"], &rows)?;
        }
        Ok(())
    }
}

impl Named {
    async fn open(&self) -> anyhow::Result<(Store, Channel)> {
        let store = connect::store(&self.settings.load()?).await?;
        let channel = find(&store, &self.account, &self.channel).await?;
        Ok((store, channel))
    }

    async fn pause(self) -> anyhow::Result<()> {
        let (store, channel) = self.open().await?;
        let paused = store.pause_channel(&self.account, channel.id, PAUSED_BY_HAND).await?;
        output::line(if paused { "paused: its alerts wait" } else { "it was paused already" })?;
        Ok(())
    }

    async fn resume(self) -> anyhow::Result<()> {
        let (store, channel) = self.open().await?;
        ensure!(store.resume_channel(&self.account, channel.id).await?, "the channel is gone");
        output::line("resumed: what waited is sent now")?;
        Ok(())
    }

    async fn remove(self) -> anyhow::Result<()> {
        let (store, channel) = self.open().await?;
        ensure!(store.remove_channel(&self.account, channel.id).await?, "the channel is gone");
        output::line("removed")?;
        Ok(())
    }

    async fn test(self) -> anyhow::Result<()> {
        let (store, channel) = self.open().await?;
        let (alert_id, at) = (format!("test-{}", Uuid::now_v7()), Clock::system().now());
        let body = serde_json::to_vec(&sample::test_alert(&alert_id, &self.account, at));
        let body = body.context("the sample cannot be written")?;
        let new =
            NewDelivery { account: &self.account, alert_id: &alert_id, token: None, body: &body, is_test: true, at };
        let ids = store.enqueue_alert(&new, &[channel.id]).await?;
        let id = *ids.first().context("the channel is gone")?;
        let waiting = async {
            loop {
                let found = store.delivery(&self.account, id).await?.context("the delivery is gone")?;
                if found.state != DeliveryState::Pending {
                    return anyhow::Ok(found);
                }
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        };
        let Ok(found) = tokio::time::timeout(TEST_PATIENCE, waiting).await else {
            bail!("nothing happened within {} s: does `churnd run` with the role notify run?", TEST_PATIENCE.as_secs());
        };
        let found = found?;
        match found.state {
            DeliveryState::Delivered => Ok(output::line("delivered")?),
            _ => bail!("not delivered: {}", found.last_error.unwrap_or_else(|| found.state.as_str().to_owned())),
        }
    }
}

async fn find(store: &Store, account: &AccountId, text: &str) -> anyhow::Result<Channel> {
    let id = Uuid::parse_str(text).ok();
    let channels = store.list_channels(account).await?;
    let found = channels.into_iter().find(|channel| channel.name == text || Some(channel.id) == id);
    found.with_context(|| format!("account {account} has no channel {text}: `churnd channel list` shows them"))
}

fn refuse(problems: Vec<String>) -> anyhow::Result<()> {
    ensure!(problems.is_empty(), "{}", problems.join("; "));
    Ok(())
}

fn read_secret(file: Option<&PathBuf>) -> anyhow::Result<SecretString> {
    let text = match file.filter(|file| file.to_str() != Some("-")) {
        None => io::read_to_string(io::stdin()).context("cannot read the secret from standard input")?,
        Some(file) => {
            fs::read_to_string(file).with_context(|| format!("cannot read the secret from {}", file.display()))?
        }
    };
    ensure!(!text.trim().is_empty(), "the secret is empty: give the URL or the token in a file or on standard input");
    Ok(SecretString::from(text.trim()))
}

impl What {
    fn apply(&self, taking: &mut Taking, templates: &mut Templates) -> anyhow::Result<()> {
        fn number<T: std::str::FromStr>(flag: &str, text: &str) -> anyhow::Result<Option<T>> {
            if text == "none" {
                return Ok(None);
            }
            text.parse().map(Some).map_err(|_| anyhow::anyhow!("{flag} is `{text}`: give a number, or `none`"))
        }
        if let Some(level) = &self.minimum_level {
            taking.minimum_level = serde_json::from_value(Value::from(level.as_str()))
                .map_err(|_| anyhow::anyhow!("--minimum-level is `{level}`: it is low, medium or high"))?;
        }
        if let Some(text) = &self.minimum_mrr {
            taking.minimum_mrr = number("--minimum-mrr", text)?;
        }
        if let Some(text) = &self.per_hour {
            taking.per_hour = number("--per-hour", text)?;
        }
        if let Some(text) = &self.per_customer_per_hour {
            taking.per_customer_per_hour = number("--per-customer-per-hour", text)?;
        }
        if let Some(text) = &self.digest_after {
            taking.digest_after = number("--digest-after", text)?;
        }
        if let Some(text) = &self.quiet_hours {
            taking.quiet_hours = quiet_hours(text)?;
        }
        let read = |file: &PathBuf| fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()));
        if let Some(file) = &self.subject_template {
            templates.subject = read(file)?;
        }
        if let Some(file) = &self.text_template {
            templates.text = read(file)?;
        }
        if let Some(file) = &self.html_template {
            templates.html = Some(read(file)?);
        }
        refuse(templates::problems(templates))
    }
}

fn quiet_hours(text: &str) -> anyhow::Result<Option<QuietHours>> {
    if text == "none" {
        return Ok(None);
    }
    let parts = text.split_once(' ').and_then(|(span, zone)| Some((span.split_once('-')?, zone.trim())));
    let ((from, to), zone) =
        parts.with_context(|| format!("--quiet-hours is `{text}`: write it like `20:00-08:00 Europe/Berlin`"))?;
    Ok(Some(QuietHours { from: from.to_owned(), to: to.to_owned(), zone: zone.to_owned() }))
}

fn state(channel: &Channel) -> String {
    match (&channel.paused, channel.failing_since, &channel.last_error) {
        (Some((at, reason)), ..) => format!("paused since {}: {reason}", output::to_the_second(*at)),
        (None, Some(since), error) => {
            let error = error.as_deref().unwrap_or("no reason was given");
            format!("failing since {}: {error}", output::to_the_second(since))
        }
        (None, None, _) => "ok".to_owned(),
    }
}

fn as_row(channel: &Channel) -> [String; 6] {
    let kind: ChannelKind = channel.kind();
    [
        channel.name.clone(),
        kind.to_string(),
        channel.target.shown(),
        channel.settings.minimum_level.as_str().to_owned(),
        state(channel),
        channel.id.to_string(),
    ]
}

fn as_json(channel: &Channel) -> Value {
    json!({
        "id": channel.id, "account": channel.account, "name": channel.name, "kind": channel.kind(),
        "to": channel.target.shown(), "settings": channel.settings, "state": state(channel),
        "createdAt": channel.created_at,
    })
}
