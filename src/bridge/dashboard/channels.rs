//! Channels: where the account's alerts go, how messages arrived there, and adding, pausing and removing them.
//!
//! What is secret of a channel goes in and never comes out, except for a webhook's new signing secret: it is shown once, on the
//! page that answers its making.

use std::{collections::HashMap, str::FromStr};

use askama::Template;
use axum::{
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Redirect, Response},
};
use secrecy::{ExposeSecret as _, SecretString};
use uuid::Uuid;

use super::{
    super::{query::Checked, state::Bridge},
    error::PageError,
    form::{Fields, Posted},
    layout::{CHANNELS, Frame, Page},
    overview::percent,
    session::Visitor,
    words::{When, count},
};
use crate::{
    engine::checkpoint::Level,
    event::{ids::AccountId, time::Timestamp},
    store::{
        StoreError,
        channels::{
            Channel, ChannelKind, NewChannel, PAUSED_BY_HAND, QuietHours, Settings, Target, Templates,
            new_webhook_secret,
        },
        deliveries::DeliverySums,
    },
};

const DAY_MILLIS: i64 = 86_400_000;
/// How far back messages are counted.
const DAYS: i64 = 30;

#[derive(Template)]
#[template(path = "dashboard/channels.html")]
pub(super) struct ChannelsPage {
    frame: Frame,
    notice: Option<&'static str>,
    channels: Vec<ChannelCard>,
    form: Form,
    /// A new webhook's name and its signing secret, to be copied now.
    secret: Option<(String, String)>,
}

/// How a channel stands.
pub(super) struct ChannelCard {
    pub(super) id: Uuid,
    pub(super) name: String,
    pub(super) kind: &'static str,
    pub(super) target: String,
    pub(super) state: Health,
    pub(super) why: Option<String>,
    pub(super) since: Option<When>,
    pub(super) takes: String,
    pub(super) delivered: String,
    pub(super) refused: String,
    pub(super) pending: String,
    pub(super) success: String,
    pub(super) last: Option<When>,
}

/// Whether messages arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Health {
    Works,
    Fails,
    Paused,
}

/// The form as it was sent, and what is wrong with it.
#[derive(Default)]
struct Form {
    fields: Fields,
    problems: Vec<String>,
}

/// What was just done.
#[derive(Debug, serde::Deserialize)]
pub(super) struct ChannelsQuery {
    #[serde(default)]
    done: Option<String>,
}

/// `GET /dashboard/channels`
pub(super) async fn channels(
    State(bridge): State<Bridge>,
    visitor: Visitor,
    Checked(query): Checked<ChannelsQuery>,
) -> Result<Page<ChannelsPage>, PageError> {
    let notice = match query.done.as_deref() {
        Some("added") => Some("The channel was added: alerts from now on go there."),
        Some("paused") => Some("The channel is paused. Alerts wait and are sent when it goes on."),
        Some("resumed") => Some("The channel goes on: what waited is being sent."),
        Some("tested") => {
            Some("A test message is on its way; what became of it shows here in a moment. Reload the page.")
        }
        Some("removed") => Some("The channel was removed, with its secrets and what it had not sent."),
        _ => None,
    };
    page(&bridge, &visitor, Form::default(), notice, None).await
}

/// `POST /dashboard/channels`: adds one.
pub(super) async fn add(State(bridge): State<Bridge>, posted: Posted) -> Result<Response, PageError> {
    let Posted { visitor, fields } = posted;
    let refuse = async |problems: Vec<String>| {
        let form = Form { fields: fields.clone(), problems };
        let page = page(&bridge, &visitor, form, None, None).await?;
        Ok((StatusCode::UNPROCESSABLE_ENTITY, page).into_response())
    };
    let new = match read(&fields) {
        Ok(new) => new,
        Err(problem) => return refuse(vec![problem]).await,
    };
    let mut problems = new.problems();
    if problems.is_empty() {
        problems = bridge.checks.problems(Some(&new.target), Some(&new.templates));
    }
    if !problems.is_empty() {
        return refuse(problems.into_iter().map(in_words).collect()).await;
    }
    match bridge.store.add_channel(&visitor.account, &new).await {
        Ok(_) => {}
        Err(StoreError::ChannelExists(_)) => {
            return refuse(vec!["There is a channel of this name already: choose another.".to_owned()]).await;
        }
        Err(error) => return Err(error.into()),
    }
    if let Target::Webhook { secrets, .. } = &new.target {
        let secret = secrets.first().map(|secret| (new.name.clone(), secret.expose_secret().to_owned()));
        let page = page(&bridge, &visitor, Form::default(), None, secret).await?;
        return Ok((StatusCode::CREATED, page).into_response());
    }
    Ok(Redirect::to("/dashboard/channels?done=added").into_response())
}

/// `POST /dashboard/channels/change`: pauses, resumes, tests or removes one.
pub(super) async fn change(State(bridge): State<Bridge>, posted: Posted) -> Result<Redirect, PageError> {
    let Posted { visitor, fields } = posted;
    let id = Uuid::from_str(fields.get("id")).map_err(|_| PageError::NotFound)?;
    let (store, account) = (&bridge.store, &visitor.account);
    let done = match fields.get("do") {
        "pause" => {
            // Pausing what is paused changes nothing.
            let paused = store.pause_channel(account, id, PAUSED_BY_HAND).await?;
            if !paused && store.channel(account, id).await?.is_none() {
                return Err(PageError::NotFound);
            }
            "paused"
        }
        "test" if bridge.test_channel(account, id).await?.is_some() => "tested",
        "resume" if store.resume_channel(account, id).await? => "resumed",
        "remove" if store.remove_channel(account, id).await? => "removed",
        _ => return Err(PageError::NotFound),
    };
    Ok(Redirect::to(&format!("/dashboard/channels?done={done}")))
}

async fn page(
    bridge: &Bridge,
    visitor: &Visitor,
    form: Form,
    notice: Option<&'static str>,
    secret: Option<(String, String)>,
) -> Result<Page<ChannelsPage>, PageError> {
    let channels = cards(bridge, &visitor.account).await?;
    Ok(Page(ChannelsPage { frame: Frame::new(visitor, CHANNELS, "Channels"), notice, channels, form, secret }))
}

/// How an account's channels stand.
pub(super) async fn cards(bridge: &Bridge, account: &AccountId) -> Result<Vec<ChannelCard>, StoreError> {
    let since = bridge.now().plus_millis(-DAYS * DAY_MILLIS);
    let sums = bridge.store.delivery_sums(account, since).await?;
    let sums: HashMap<Uuid, DeliverySums> = sums.into_iter().map(|sums| (sums.channel_id, sums)).collect();
    let channels = bridge.store.list_channels(account).await?;
    Ok(channels.iter().map(|channel| card(channel, sums.get(&channel.id))).collect())
}

fn card(channel: &Channel, sums: Option<&DeliverySums>) -> ChannelCard {
    let counted = |of: fn(&DeliverySums) -> u64| sums.map_or(0, of);
    let (delivered, refused) = (counted(|sums| sums.delivered), counted(|sums| sums.refused));
    let (state, why, since): (_, _, Option<Timestamp>) = match (&channel.paused, channel.failing_since) {
        (Some((at, reason)), _) => (Health::Paused, Some(reason.clone()), Some(*at)),
        (None, Some(at)) => (Health::Fails, channel.last_error.clone(), Some(at)),
        (None, None) => (Health::Works, None, None),
    };
    ChannelCard {
        id: channel.id,
        name: channel.name.clone(),
        kind: kind_in_words(channel.kind()),
        target: channel.target.shown(),
        state,
        why,
        since: since.map(When),
        takes: takes(&channel.settings),
        success: percent(delivered, delivered + refused),
        delivered: count(delivered),
        refused: count(refused),
        pending: count(counted(|sums| sums.pending)),
        last: sums.and_then(|sums| sums.last_delivered).map(When),
    }
}

fn kind_in_words(kind: ChannelKind) -> &'static str {
    match kind {
        ChannelKind::Slack => "Slack",
        ChannelKind::Email => "E-mail",
        ChannelKind::Webhook => "Webhook",
    }
}

/// What a channel takes, and when it sends.
fn takes(settings: &Settings) -> String {
    let mut parts = vec![match settings.minimum_level {
        Level::High => "high risk only".to_owned(),
        Level::Medium => "medium and high risk".to_owned(),
        Level::Low => "all alerts".to_owned(),
    }];
    if let Some(least) = settings.minimum_mrr {
        parts.push(format!("customers who bring {} a month or more", count(least.max(0).unsigned_abs() / 100)));
    }
    if let Some(quiet) = &settings.quiet_hours {
        parts.push(format!("quiet from {} to {} ({})", quiet.from, quiet.to, quiet.zone));
    }
    if let Some(most) = settings.per_hour {
        parts.push(format!("{most} an hour at most"));
    }
    parts.join(", ")
}

/// A channel of the form's fields; else what is wrong.
fn read(fields: &Fields) -> Result<NewChannel, String> {
    let secret = |name| SecretString::from(fields.get(name).to_owned());
    let target = match fields.get("kind") {
        "slack" => Target::SlackWebhook { url: secret("url") },
        "webhook" => Target::Webhook { url: secret("url"), secrets: vec![new_webhook_secret()] },
        "email" => {
            let addresses = fields.get("to").split([',', ';', ' ', '\n', '\r']);
            Target::Email { to: addresses.filter(|text| !text.is_empty()).map(str::to_owned).collect() }
        }
        _ => return Err("Choose Slack, e-mail or webhook.".to_owned()),
    };
    let number = |name: &str, what: &str| match fields.filled(name) {
        None => Ok(None),
        Some(text) => text.parse::<u32>().map(Some).map_err(|_| format!("{what} must be a whole number.")),
    };
    let quiet_hours = match (fields.filled("quiet_from"), fields.filled("quiet_to")) {
        (Some(from), Some(to)) => {
            let zone = fields.filled("zone").unwrap_or("UTC").to_owned();
            Some(QuietHours { from: from.to_owned(), to: to.to_owned(), zone })
        }
        (None, None) => None,
        _ => return Err("Quiet hours need both ends.".to_owned()),
    };
    let settings = Settings {
        minimum_level: match fields.get("level") {
            "low" => Level::Low,
            "high" => Level::High,
            _ => Level::Medium,
        },
        minimum_mrr: number("mrr", "The least revenue")?.map(|whole| i64::from(whole) * 100),
        quiet_hours,
        per_hour: number("per_hour", "The most messages an hour")?,
        ..Settings::default()
    };
    Ok(NewChannel { name: fields.get("name").to_owned(), target, settings, templates: Templates::default() })
}

/// A problem that begins with a field's name, as a sentence for people.
fn in_words(problem: String) -> String {
    let (field, rest) = problem.split_once(' ').unwrap_or((problem.as_str(), ""));
    let field = match field {
        "name" => "The name",
        "url" => "The URL",
        "to" => "The list of addresses",
        "perHour" => "The most messages an hour",
        "minimumMrr" => "The least revenue",
        "quietHours.from" => "The beginning of the quiet hours",
        "quietHours.to" => "The end of the quiet hours",
        "quietHours.zone" => "The time zone",
        _ => return problem,
    };
    format!("{field} {rest}.")
}

impl ChannelsPage {
    fn csrf(&self) -> &str {
        &self.frame.visitor.csrf
    }

    fn days(&self) -> i64 {
        DAYS
    }

    /// What was written into a field that is not secret.
    fn value(&self, name: &str) -> &str {
        self.form.fields.get(name)
    }

    fn chosen(&self, name: &str, value: &str) -> bool {
        let said = self.form.fields.get(name);
        said == value || said.is_empty() && matches!(value, "slack" | "medium")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(text: &str) -> Fields {
        Fields::read(text.as_bytes())
    }

    #[test]
    fn a_form_becomes_a_channel() {
        let form = "name=Success&kind=email&to=a%40b.example%2C+c%40d.example&level=high&mrr=50&quiet_from=20:00&quiet_to=08:00&zone=Europe%2FBerlin&per_hour=9";
        let new = read(&fields(form)).unwrap();
        assert_eq!(new.problems(), Vec::<String>::new());
        assert_eq!(new.target.shown(), "a@b.example, c@d.example");
        assert_eq!((new.settings.minimum_level, new.settings.minimum_mrr), (Level::High, Some(5_000)));
        assert_eq!(
            takes(&new.settings),
            "high risk only, customers who bring 50 a month or more, quiet from 20:00 to 08:00 (Europe/Berlin), 9 an hour at most"
        );
    }

    #[test]
    fn what_is_wrong_is_told_in_words() {
        for (form, problem) in [
            ("name=x", "Choose Slack"),
            ("name=x&kind=email&to=a&mrr=x", "The least revenue must be"),
            ("name=x&kind=email&to=a&quiet_from=20:00", "both ends"),
        ] {
            assert!(read(&fields(form)).unwrap_err().contains(problem), "{form}");
        }
        let problems =
            |form: &str| read(&fields(form)).unwrap().problems().into_iter().map(in_words).collect::<Vec<_>>();
        assert_eq!(problems("name=x&kind=webhook&url=nonsense"), ["The URL must be https:// with a host."]);
        assert!(problems("name=&kind=email&to=nobody")[0].starts_with("The name must be"));
        assert!(problems("name=x&kind=email&to=nobody")[0].starts_with("The list of addresses holds"));
    }
}
