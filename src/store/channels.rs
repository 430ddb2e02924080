//! Channels: where an account's alerts go, and which of them.
//!
//! Targets stand in the table in clear, because they must be sent as they are; they leave this module as secrets, and no
//! message shows them. A channel that was removed keeps its row without its target, for the deliveries that name it.

use std::fmt;

use deadpool_postgres::tokio_postgres::{
    Row,
    types::{Json, ToSql},
};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{
    Store,
    error::StoreError,
    keys,
    values::{PgText, RowReader},
};
use crate::{
    engine::checkpoint::Level,
    event::{ids::AccountId, time::Timestamp},
};

/// Where messages go.
#[derive(Clone, Debug)]
pub enum Target {
    /// Slack's incoming webhook; its URL is the secret.
    SlackWebhook {
        /// `https://hooks.slack.com/services/…`
        url: SecretString,
    },
    /// A Slack workspace that installed the app; messages can be updated.
    SlackApp {
        /// The bot's token, `xoxb-…`.
        token: SecretString,
        /// The Slack channel's id, or `#name`.
        channel: String,
    },
    /// Mailboxes.
    Email {
        /// Addresses, one or more.
        to: Vec<String>,
    },
    /// A URL that takes messages signed by the Standard Webhooks scheme.
    Webhook {
        /// `https://…`
        url: SecretString,
        /// `whsec_` and base64; the newest first, one or two while they are changed.
        secrets: Vec<SecretString>,
    },
}

/// What kind of channel it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ChannelKind {
    /// A Slack channel.
    Slack,
    /// Mailboxes.
    Email,
    /// A URL.
    Webhook,
}

/// The largest amount that [`Settings::minimum_mrr`] may be.
const LARGEST_MRR: i64 = 9_000_000_000_000_000;

/// Which alerts a channel takes, and when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Settings {
    /// An alert is taken if the level before or after it is at least this one.
    pub minimum_level: Level,
    /// Only alerts about customers who bring at least this a month, in minor units of whatever currency.
    #[schema(minimum = 0, maximum = 9_000_000_000_000_000_i64)] // LARGEST_MRR
    pub minimum_mrr: Option<i64>,
    /// When nothing is sent: what comes up meanwhile is sent when they end.
    pub quiet_hours: Option<QuietHours>,
    /// The most messages in any hour; what is over them waits and is sent in one.
    #[schema(minimum = 1, maximum = 4_294_967_295_i64)]
    pub per_hour: Option<u32>,
    /// The most messages about one customer in any hour; what is over them waits and is sent in one.
    #[schema(minimum = 1, maximum = 4_294_967_295_i64)]
    pub per_customer_per_hour: Option<u32>,
    /// From how many alerts on that are due at once they are sent in one message.
    #[schema(minimum = 2, maximum = 4_294_967_295_i64)]
    pub digest_after: Option<u32>,
}

/// A time of every day, by the clocks of a place. It may span midnight.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct QuietHours {
    /// When it begins, `HH:MM`.
    #[schema(example = "20:00")]
    pub from: String,
    /// When it ends, `HH:MM`.
    #[schema(example = "08:00")]
    pub to: String,
    /// Whose clocks count, by the IANA's name of their zone.
    #[schema(example = "Europe/Berlin")]
    pub zone: String,
}

/// How a channel wants its messages: templates of its own, in minijinja's language. What is empty is built in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Templates {
    /// The subject of a mail, and the first line elsewhere.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub subject: String,
    /// The message as plain text.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub text: String,
    /// The message as HTML, for mail only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub html: Option<String>,
}

/// A channel as it is stored.
#[derive(Clone, Debug)]
pub struct Channel {
    /// Its id.
    pub id: Uuid,
    /// Whose it is.
    pub account: AccountId,
    /// What people call it; unique within the account.
    pub name: String,
    /// Where messages go.
    pub target: Target,
    /// Which alerts it takes, and when.
    pub settings: Settings,
    /// The account's own words.
    pub templates: Templates,
    /// Since when it is there.
    pub created_at: Timestamp,
    /// When it was changed last.
    pub updated_at: Timestamp,
    /// It takes alerts and sends nothing: since when, and why.
    pub paused: Option<(Timestamp, String)>,
    /// Since when nothing arrives.
    pub failing_since: Option<Timestamp>,
    /// How many tries failed since then.
    pub failures: u32,
    /// Why the last try failed.
    pub last_error: Option<String>,
}

/// A channel to be added.
#[derive(Clone, Debug)]
pub struct NewChannel {
    /// What people call it; unique within the account.
    pub name: String,
    /// Where messages go.
    pub target: Target,
    /// Which alerts it takes, and when.
    pub settings: Settings,
    /// The account's own words.
    pub templates: Templates,
}

/// What is changed of a channel; what is absent stays.
#[derive(Clone, Debug, Default)]
pub struct ChannelChange {
    /// Another name.
    pub name: Option<String>,
    /// Another target, of the same kind.
    pub target: Option<Target>,
    /// Other settings.
    pub settings: Option<Settings>,
    /// Other words.
    pub templates: Option<Templates>,
}

/// Why a channel is paused that a person paused.
pub const PAUSED_BY_HAND: &str = "paused by hand";

const MAX_NAME_CHARACTERS: usize = 64;
const MAX_TEMPLATE_BYTES: usize = 64 * 1024;
const MAX_ADDRESSES: usize = 50;
const MAX_URL_BYTES: usize = 2_048;

/// A target as the table holds it.
#[derive(Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum StoredTarget {
    SlackWebhook { url: String },
    SlackApp { token: String, channel: String },
    Email { to: Vec<String> },
    Webhook { url: String, secrets: Vec<String> },
}

pub(super) const COLUMNS: &str =
    "id, account, name, kind, target, settings, templates, created_at, updated_at, paused_at,
    paused_reason, failing_since, failures, last_error";
const ADD: &str = "
    INSERT INTO channels (id, account, name, kind, target, settings, templates) VALUES ($1, $2, $3, $4, $5, $6, $7)
    ON CONFLICT (account, name) WHERE removed_at IS NULL DO NOTHING";
const CHANGE: &str = "
    UPDATE channels SET name = coalesce($3, name), target = coalesce($4, target), settings = coalesce($5, settings),
        templates = coalesce($6, templates), retry_at = NULL, updated_at = now()
    WHERE account = $1 AND id = $2 AND removed_at IS NULL AND kind = coalesce($7, kind)
    RETURNING id";
const IS_TAKEN: &str = "SELECT FROM channels WHERE account = $1 AND name = $2 AND id <> $3 AND removed_at IS NULL";
/// What waits is planned anew: by other settings it may be due.
const WAKE: &str = "UPDATE deliveries SET next_attempt_at = least(next_attempt_at, now()), held_reason = NULL
    WHERE channel_id = $1 AND state = 'pending'";
const PAUSE: &str = "UPDATE channels SET paused_at = now(), paused_reason = $3, updated_at = now()
    WHERE account = $1 AND id = $2 AND paused_at IS NULL AND removed_at IS NULL RETURNING id";
const RESUME: &str = "
    UPDATE channels SET paused_at = NULL, paused_reason = NULL, failing_since = NULL, failures = 0, retry_at = NULL,
        updated_at = now()
    WHERE account = $1 AND id = $2 AND removed_at IS NULL RETURNING id";
const REMOVE: &str = "
    UPDATE channels SET removed_at = now(), updated_at = now(), target = '{}', templates = '{}', paused_at = NULL,
        paused_reason = NULL, failing_since = NULL, claimed_by = NULL, claimed_until = NULL
    WHERE account = $1 AND id = $2 AND removed_at IS NULL RETURNING id";
const CANCEL: &str = "UPDATE deliveries SET state = 'canceled' WHERE channel_id = $1 AND state = 'pending'";

impl Store {
    /// Adds a channel; gives its id.
    pub async fn add_channel(&self, account: &AccountId, new: &NewChannel) -> Result<Uuid, StoreError> {
        let id = Uuid::now_v7();
        let (target, kind) = (Json(StoredTarget::of(&new.target)), new.target.kind().as_str());
        let (settings, templates) = (Json(&new.settings), Json(&new.templates));
        let (name, target, settings, templates) = (new.name.as_str(), &target, &settings, &templates);
        let added = self
            .transaction("add a channel", move |tx| async move {
                keys::lock_account(&tx, account).await?;
                tx.execute(ADD, &[&id, &account.as_str(), &name, &kind, target, settings, templates]).await
            })
            .await?;
        if added == 0 { Err(StoreError::ChannelExists(new.name.clone())) } else { Ok(id) }
    }

    /// Changes a channel; false if there is none of this id and kind. What waits is sent as it is then to be.
    pub async fn change_channel(
        &self,
        account: &AccountId,
        id: Uuid,
        change: &ChannelChange,
    ) -> Result<bool, StoreError> {
        let target = change.target.as_ref().map(|target| Json(StoredTarget::of(target)));
        let kind = change.target.as_ref().map(|target| target.kind().as_str());
        let (settings, templates) = (change.settings.as_ref().map(Json), change.templates.as_ref().map(Json));
        let (target, settings, templates) = (&target, &settings, &templates);
        self.transaction("change a channel", move |tx| async move {
            keys::lock_account(&tx, account).await?;
            if let Some(name) = &change.name
                && !tx.query(IS_TAKEN, &[&account.as_str(), name, &id]).await?.is_empty()
            {
                return Err(StoreError::ChannelExists(name.clone()));
            }
            let parameters: [&(dyn ToSql + Sync); 7] =
                [&account.as_str(), &id, &change.name, target, settings, templates, &kind];
            let changed = !tx.query(CHANGE, &parameters).await?.is_empty();
            if changed {
                tx.execute(WAKE, &[&id]).await?;
            }
            Ok(changed)
        })
        .await
    }

    /// An account's channels by name.
    pub async fn list_channels(&self, account: &AccountId) -> Result<Vec<Channel>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM channels WHERE account = $1 AND removed_at IS NULL ORDER BY name");
        let rows = self.statement("list the channels", &sql, &[&account.as_str()]).await?;
        rows.iter().map(read_channel).collect()
    }

    /// One of an account's channels.
    pub async fn channel(&self, account: &AccountId, id: Uuid) -> Result<Option<Channel>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM channels WHERE account = $1 AND id = $2 AND removed_at IS NULL");
        let rows = self.statement("load a channel", &sql, &[&account.as_str(), &id]).await?;
        rows.first().map(read_channel).transpose()
    }

    /// Channels of all accounts that are paused or where nothing arrives.
    pub async fn troubled_channels(&self) -> Result<Vec<Channel>, StoreError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM channels
             WHERE removed_at IS NULL AND (paused_at IS NOT NULL OR failing_since IS NOT NULL) ORDER BY account, name"
        );
        self.statement("look at the channels", &sql, &[]).await?.iter().map(read_channel).collect()
    }

    /// Pauses a channel: it goes on taking alerts and sends none. False if it was paused, or is not there.
    pub async fn pause_channel(&self, account: &AccountId, id: Uuid, reason: &str) -> Result<bool, StoreError> {
        let rows = self.statement("pause a channel", PAUSE, &[&account.as_str(), &id, &PgText(reason)]).await?;
        Ok(!rows.is_empty())
    }

    /// Has a channel send again what waited, at once and whatever it failed with before; false if it is not there.
    pub async fn resume_channel(&self, account: &AccountId, id: Uuid) -> Result<bool, StoreError> {
        self.transaction("resume a channel", move |tx| async move {
            let resumed = !tx.query(RESUME, &[&account.as_str(), &id]).await?.is_empty();
            if resumed {
                tx.execute(WAKE, &[&id]).await?;
            }
            Ok(resumed)
        })
        .await
    }

    /// Removes a channel, its secrets, and what it had not sent; false if it is not there.
    pub async fn remove_channel(&self, account: &AccountId, id: Uuid) -> Result<bool, StoreError> {
        self.transaction("remove a channel", move |tx| async move {
            let removed = !tx.query(REMOVE, &[&account.as_str(), &id]).await?.is_empty();
            if removed {
                tx.execute(CANCEL, &[&id]).await?;
            }
            Ok(removed)
        })
        .await
    }
}

pub(super) fn read_channel(row: &Row) -> Result<Channel, StoreError> {
    let row = RowReader { table: "channels", row };
    let target = row.get::<Json<StoredTarget>>("target")?.0;
    let paused = match (row.optional_time("paused_at")?, row.optional_text("paused_reason")?) {
        (Some(at), Some(reason)) => Some((at, reason)),
        _ => None,
    };
    Ok(Channel {
        id: row.get("id")?,
        account: row.account("account")?,
        name: row.text("name")?,
        target: target.into(),
        settings: row.get::<Json<Settings>>("settings")?.0,
        templates: row.get::<Json<Templates>>("templates")?.0,
        created_at: row.time("created_at")?,
        updated_at: row.time("updated_at")?,
        paused,
        failing_since: row.optional_time("failing_since")?,
        failures: u32::try_from(row.get::<i32>("failures")?).map_err(|_| row.broken("failures"))?,
        last_error: row.optional_text("last_error")?,
    })
}

impl Channel {
    /// What kind of channel it is.
    pub fn kind(&self) -> ChannelKind {
        self.target.kind()
    }

    /// It was paused because nothing arrives, not by a person.
    pub fn is_paused_by_us(&self) -> bool {
        self.paused.as_ref().is_some_and(|(_, reason)| reason != PAUSED_BY_HAND)
    }
}

impl ChannelKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Slack, Self::Email, Self::Webhook];

    /// The kind as it stands in tables, answers and labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Slack => "slack",
            Self::Email => "email",
            Self::Webhook => "webhook",
        }
    }

    pub(super) fn read(row: &RowReader<'_>, column: &str) -> Result<Self, StoreError> {
        let name: &str = row.get(column)?;
        Self::ALL.into_iter().find(|kind| kind.as_str() == name).ok_or_else(|| row.broken(column))
    }
}

impl fmt::Display for ChannelKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            minimum_level: Level::Medium,
            minimum_mrr: None,
            quiet_hours: None,
            per_hour: None,
            per_customer_per_hour: None,
            digest_after: Some(10),
        }
    }
}

impl Settings {
    /// Everything that cannot work, each as a sentence that begins with the setting.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if let Some(quiet) = &self.quiet_hours {
            for (field, text) in [("from", &quiet.from), ("to", &quiet.to)] {
                if quiet.time(text).is_none() {
                    problems.push(format!("quietHours.{field} is `{}`: it must be a time such as 20:00", shown(text)));
                }
            }
            if quiet.from == quiet.to {
                problems
                    .push("quietHours.to equals quietHours.from: nothing would be sent, or never nothing".to_owned());
            }
            if jiff::tz::TimeZone::get(&quiet.zone).is_err() {
                let zone = shown(&quiet.zone);
                problems.push(format!("quietHours.zone is `{zone}`: it must be a time zone such as Europe/Berlin"));
            }
        }
        if self.minimum_mrr.is_some_and(|least| !(0..=LARGEST_MRR).contains(&least)) {
            problems.push("minimumMrr must be an amount in minor units, such as 5000".to_owned());
        }
        for (field, most) in [("perHour", self.per_hour), ("perCustomerPerHour", self.per_customer_per_hour)] {
            if most == Some(0) {
                problems.push(format!("{field} is 0: nothing would ever be sent; pause the channel instead"));
            }
        }
        if self.digest_after.is_some_and(|count| count < 2) {
            problems.push("digestAfter is below 2: one alert makes no digest; leave it out to send none".to_owned());
        }
        problems
    }
}

impl QuietHours {
    /// When they begin and end, where that can be read.
    pub fn span(&self) -> Option<(jiff::civil::Time, jiff::civil::Time)> {
        Some((self.time(&self.from)?, self.time(&self.to)?))
    }

    fn time(&self, text: &str) -> Option<jiff::civil::Time> {
        let (hour, minute) = text.split_once(':')?;
        let number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<i8>().ok())?;
        if (hour.len(), minute.len()) != (2, 2) {
            return None;
        }
        jiff::civil::Time::new(number(hour)?, number(minute)?, 0, 0).ok()
    }
}

impl Templates {
    /// Everything that cannot be stored, each as a sentence that begins with the template.
    pub fn problems(&self) -> Vec<String> {
        let html = self.html.as_deref().unwrap_or_default();
        let mut problems = Vec::new();
        for (name, template) in [("subject", self.subject.as_str()), ("text", &self.text), ("html", html)] {
            if template.len() > MAX_TEMPLATE_BYTES {
                problems.push(format!("templates.{name} has more than {MAX_TEMPLATE_BYTES} bytes"));
            }
            if template.contains('\0') {
                problems.push(format!("templates.{name} holds a NUL character"));
            }
        }
        problems
    }
}

impl NewChannel {
    /// Everything that cannot work, each as a sentence that begins with the field.
    pub fn problems(&self) -> Vec<String> {
        let mut problems: Vec<String> = problem_of_name(&self.name).into_iter().collect();
        problems.extend(self.target.problems());
        problems.extend(self.settings.problems());
        problems.extend(self.templates.problems());
        problems
    }
}

impl ChannelChange {
    /// Everything that cannot work, each as a sentence that begins with the field.
    pub fn problems(&self) -> Vec<String> {
        let mut problems: Vec<String> = self.name.as_deref().and_then(problem_of_name).into_iter().collect();
        problems.extend(self.target.iter().flat_map(Target::problems));
        problems.extend(self.settings.iter().flat_map(Settings::problems));
        problems.extend(self.templates.iter().flat_map(Templates::problems));
        problems
    }
}

fn problem_of_name(name: &str) -> Option<String> {
    let fits = (1..=MAX_NAME_CHARACTERS).contains(&name.chars().count())
        && name.trim() == name
        && !name.contains(char::is_control);
    (!fits).then(|| format!("name must be 1 to {MAX_NAME_CHARACTERS} characters without blanks at its ends"))
}

impl Target {
    /// What kind of channel it makes.
    pub fn kind(&self) -> ChannelKind {
        match self {
            Self::SlackWebhook { .. } | Self::SlackApp { .. } => ChannelKind::Slack,
            Self::Email { .. } => ChannelKind::Email,
            Self::Webhook { .. } => ChannelKind::Webhook,
        }
    }

    /// Where it leads, without anything secret.
    pub fn shown(&self) -> String {
        match self {
            Self::SlackApp { channel, .. } => channel.clone(),
            Self::Email { to } => to.join(", "),
            Self::SlackWebhook { url } | Self::Webhook { url, .. } => origin_of(url)
                .map_or_else(|| "an address that cannot be read".to_owned(), |origin| format!("{origin}/…")),
        }
    }

    /// Everything that cannot work, each as a sentence that begins with the field and shows nothing secret.
    pub fn problems(&self) -> Vec<String> {
        let problem = match self {
            Self::SlackWebhook { url } => problem_of_url(url),
            Self::SlackApp { token, channel } => {
                if !token.expose_secret().starts_with("xox") || has_odd_characters(token.expose_secret()) {
                    Some("token is no bot token of Slack: they begin with xoxb-")
                } else if channel.is_empty() || channel.len() > 100 || channel.contains(char::is_control) {
                    Some("channel must be a Slack channel's id, or #name")
                } else {
                    None
                }
            }
            Self::Email { to } if to.is_empty() || to.len() > MAX_ADDRESSES => Some("to must hold 1 to 50 addresses"),
            Self::Email { to } if !to.iter().all(|address| is_address(address)) => {
                Some("to holds what is no address such as team@example.com")
            }
            Self::Email { .. } => None,
            Self::Webhook { secrets, .. } if !(1..=2).contains(&secrets.len()) => {
                Some("secrets must be one, or two while they are changed")
            }
            Self::Webhook { secrets, .. } if !secrets.iter().all(is_webhook_secret) => {
                Some("secrets must be whsec_ and 24 to 64 bytes in base64")
            }
            Self::Webhook { url, .. } => problem_of_url(url),
        };
        problem.map(str::to_owned).into_iter().collect()
    }
}

/// A new secret for signing webhooks: 32 random bytes.
pub fn new_webhook_secret() -> SecretString {
    let bytes = [Uuid::new_v4(), Uuid::new_v4(), Uuid::new_v4()].map(Uuid::into_bytes).concat();
    let digest = <sha2::Sha256 as sha2::Digest>::digest(&bytes);
    SecretString::from(format!("whsec_{}", data_encoding::BASE64.encode(&digest)))
}

fn is_webhook_secret(secret: &SecretString) -> bool {
    let bytes = secret.expose_secret().strip_prefix("whsec_").map(|text| data_encoding::BASE64.decode(text.as_bytes()));
    matches!(bytes, Some(Ok(bytes)) if (24..=64).contains(&bytes.len()))
}

fn is_address(text: &str) -> bool {
    let parts = text.rsplit_once('@').filter(|(local, domain)| !local.is_empty() && domain.len() >= 2);
    parts.is_some() && text.len() <= 254 && !has_odd_characters(text)
}

fn has_odd_characters(text: &str) -> bool {
    text.contains(|letter: char| {
        letter.is_control() || letter.is_whitespace() || matches!(letter, ',' | ';' | '<' | '>')
    })
}

fn problem_of_url(url: &SecretString) -> Option<&'static str> {
    let text = url.expose_secret();
    let fits = text.len() <= MAX_URL_BYTES && !has_odd_characters(text) && origin_of(url).is_some();
    (!fits).then_some("url must be https:// with a host")
}

fn origin_of(url: &SecretString) -> Option<String> {
    let url = url::Url::parse(url.expose_secret()).ok()?;
    let is_web = matches!(url.scheme(), "https" | "http") && url.has_host();
    is_web.then(|| url.origin().ascii_serialization())
}

fn shown(text: &str) -> String {
    text.chars().filter(|letter| !letter.is_control()).take(40).collect()
}

impl StoredTarget {
    fn of(target: &Target) -> Self {
        let plain = |secret: &SecretString| secret.expose_secret().to_owned();
        match target {
            Target::SlackWebhook { url } => Self::SlackWebhook { url: plain(url) },
            Target::SlackApp { token, channel } => Self::SlackApp { token: plain(token), channel: channel.clone() },
            Target::Email { to } => Self::Email { to: to.clone() },
            Target::Webhook { url, secrets } => {
                Self::Webhook { url: plain(url), secrets: secrets.iter().map(plain).collect() }
            }
        }
    }
}

impl fmt::Debug for StoredTarget {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("StoredTarget")
    }
}

impl From<StoredTarget> for Target {
    fn from(stored: StoredTarget) -> Self {
        match stored {
            StoredTarget::SlackWebhook { url } => Self::SlackWebhook { url: url.into() },
            StoredTarget::SlackApp { token, channel } => Self::SlackApp { token: token.into(), channel },
            StoredTarget::Email { to } => Self::Email { to },
            StoredTarget::Webhook { url, secrets } => {
                Self::Webhook { url: url.into(), secrets: secrets.into_iter().map(SecretString::from).collect() }
            }
        }
    }
}
