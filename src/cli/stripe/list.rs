//! Stripe's list of events, page by page, the newest first (GET /v1/events).
//!
//! What passes by itself is waited for: too many requests, failures on Stripe's side, broken connections.

use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, Response, StatusCode, Uri, header};
use indicatif::ProgressBar;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{event::time::Timestamp, web::Web};

/// Events a page: the most that Stripe gives.
const PAGE: usize = 100;
/// How often a page is asked for before giving up.
const ATTEMPTS: u32 = 8;
const FIRST_WAIT: Duration = Duration::from_millis(500);
/// The longest wait, also if Stripe asks for a longer one.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// What is asked for.
#[derive(Debug, Default)]
pub(super) struct Query {
    /// Not older.
    pub(super) since: Option<Timestamp>,
    /// Not newer.
    pub(super) until: Option<Timestamp>,
    /// Only these types; all if empty.
    pub(super) types: Vec<String>,
}

/// Where the list is, and with which key it is asked for.
pub(super) struct EventList {
    pub(super) web: Web,
    pub(super) api_url: String,
    pub(super) api_key: SecretString,
    pub(super) query: Query,
    pub(super) bar: ProgressBar,
}

/// One event as it stands in the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Listed {
    /// `evt_…`
    pub(super) id: String,
    /// Its type.
    pub(super) kind: String,
    /// When it was created.
    pub(super) created: Timestamp,
    /// The whole event, as it came.
    pub(super) body: Bytes,
}

/// A page of the list.
pub(super) struct Page {
    pub(super) events: Vec<Listed>,
    /// Older ones follow.
    pub(super) has_more: bool,
}

/// What becomes of an answer.
enum Step {
    Done(Bytes),
    Wait { why: String, at_least: Option<Duration> },
}

impl EventList {
    /// The page that follows an event; the first one without.
    pub(super) async fn page(&self, after: Option<&str>) -> anyhow::Result<Page> {
        let uri: Uri = self.address(after).parse().context("stripe.api_url is no address")?;
        let mut wait = FIRST_WAIT;
        for attempt in 1.. {
            let why = match self.ask(&uri).await? {
                Step::Done(body) => return read(&body),
                Step::Wait { why, .. } if attempt == ATTEMPTS => bail!("{why}, also at attempt {attempt}"),
                Step::Wait { why, at_least } => {
                    wait = at_least.unwrap_or(wait).min(LONGEST_WAIT);
                    why
                }
            };
            self.bar.suspend(|| eprintln!("{why}: asking again in {:.1} s", wait.as_secs_f64()));
            tokio::time::sleep(wait).await;
            wait = (wait * 2).clamp(FIRST_WAIT, LONGEST_WAIT);
        }
        unreachable!("the attempts end before the numbers do")
    }

    fn address(&self, after: Option<&str>) -> String {
        let mut address = format!("{}/v1/events?limit={PAGE}", self.api_url.trim_end_matches('/'));
        let seconds = |at: Timestamp| at.millis().div_euclid(1_000);
        address += &self.query.since.map(|at| format!("&created%5Bgte%5D={}", seconds(at))).unwrap_or_default();
        address += &self.query.until.map(|at| format!("&created%5Blte%5D={}", seconds(at))).unwrap_or_default();
        self.query.types.iter().for_each(|kind| address += &format!("&types%5B%5D={kind}"));
        address + &after.map(|id| format!("&starting_after={id}")).unwrap_or_default()
    }

    async fn ask(&self, uri: &Uri) -> anyhow::Result<Step> {
        let mut key = header::HeaderValue::from_str(&format!("Bearer {}", self.api_key.expose_secret()))
            .map_err(|_| anyhow!("stripe.api_key holds characters that no key has"))?;
        key.set_sensitive(true);
        let request = Request::get(uri).header(header::AUTHORIZATION, key).body(Full::default());
        match self.web.send(request.context("stripe.api_url is no address")?).await {
            Ok(answer) => judge(answer),
            Err(error) if error.is_transient() => Ok(Step::Wait { why: error.to_string(), at_least: None }),
            Err(error) => Err(error).context("stripe.api_url cannot be used"),
        }
    }
}

fn judge(answer: Response<Bytes>) -> anyhow::Result<Step> {
    let status = answer.status();
    let told = message_of(answer.body());
    match status {
        StatusCode::OK => Ok(Step::Done(answer.into_body())),
        StatusCode::UNAUTHORIZED => {
            bail!("Stripe does not know the key in stripe.api_key (or $STRIPE_API_KEY): {told}")
        }
        StatusCode::FORBIDDEN => {
            bail!("the key in stripe.api_key may not read events: give it that right in Stripe's dashboard: {told}")
        }
        StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT | StatusCode::CONFLICT => {
            Ok(waiting(status, answer.headers()))
        }
        _ if status.is_server_error() => Ok(waiting(status, answer.headers())),
        _ if status.is_redirection() => {
            bail!("stripe.api_url leads elsewhere ({status}): set it to Stripe's API itself")
        }
        _ => bail!("Stripe refuses the question ({status}): {told}"),
    }
}

fn waiting(status: StatusCode, headers: &header::HeaderMap) -> Step {
    let seconds = headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
    Step::Wait { why: format!("Stripe answers {status}"), at_least: seconds.map(Duration::from_secs) }
}

/// What Stripe says is wrong.
fn message_of(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Answer {
        error: Message,
    }
    #[derive(Deserialize)]
    struct Message {
        message: String,
    }
    let message = serde_json::from_slice(body).map(|answer: Answer| answer.error.message);
    message.map_or_else(|_| "it does not say why".to_owned(), |text| text.chars().take(300).collect())
}

fn read(body: &[u8]) -> anyhow::Result<Page> {
    #[derive(Deserialize)]
    struct List<'a> {
        #[serde(borrow)]
        data: Vec<&'a RawValue>,
        has_more: bool,
    }
    #[derive(Deserialize)]
    struct Event {
        id: String,
        r#type: String,
        created: i64,
    }
    const ODD: &str = "this is not Stripe's list of events: is stripe.api_url right?";
    let list: List<'_> = serde_json::from_slice(body).context(ODD)?;
    let listed = |raw: &RawValue| {
        let event: Event = serde_json::from_str(raw.get()).context(ODD)?;
        let plain = event.id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        anyhow::ensure!(plain && !event.id.is_empty(), ODD);
        let body = Bytes::copy_from_slice(raw.get().as_bytes());
        Ok(Listed { id: event.id, kind: event.r#type, created: Timestamp::from_seconds(event.created), body })
    };
    let events = list.data.into_iter().map(listed).collect::<anyhow::Result<_>>()?;
    Ok(Page { events, has_more: list.has_more })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::web::Limits;

    fn list(query: Query) -> EventList {
        let limits = Limits { time: Duration::from_secs(1), body_bytes: 1_000 };
        let web = Web::new(limits).unwrap();
        let api_key = SecretString::from("sk_test");
        EventList { web, api_url: "https://api.stripe.com/".to_owned(), api_key, query, bar: ProgressBar::hidden() }
    }

    #[test]
    fn addresses_hold_what_is_asked_for() {
        let address = |query, after| list(query).address(after);
        assert_eq!(address(Query::default(), None), "https://api.stripe.com/v1/events?limit=100");
        let at = |seconds| Some(Timestamp::from_seconds(seconds));
        let query =
            Query { since: at(1), until: at(2), types: vec!["invoice.paid".to_owned(), "charge.failed".to_owned()] };
        assert_eq!(
            address(query, Some("evt_1")),
            "https://api.stripe.com/v1/events?limit=100&created%5Bgte%5D=1&created%5Blte%5D=2\
             &types%5B%5D=invoice.paid&types%5B%5D=charge.failed&starting_after=evt_1"
        );
    }

    #[test]
    fn events_are_handed_on_as_they_came() {
        let body =
            r#"{"object":"list","data":[{"id":"evt_2", "type":"invoice.paid","created":7,"x":1.50}],"has_more":true}"#;
        let page = read(body.as_bytes()).unwrap();
        assert!(page.has_more);
        assert_eq!(page.events[0].body, r#"{"id":"evt_2", "type":"invoice.paid","created":7,"x":1.50}"#);
        for odd in [
            "",
            "[]",
            "{}",
            r#"{"data":[{}],"has_more":false}"#,
            r#"{"data":[{"id":"a&b","type":"x","created":1}],"has_more":false}"#,
        ] {
            assert!(read(odd.as_bytes()).is_err(), "{odd}");
        }
    }

    #[test]
    fn answers_say_what_to_do() {
        let told = |status: u16, body: &'static str| {
            let answer = Response::builder().status(status).header("retry-after", "7").body(Bytes::from(body)).unwrap();
            match judge(answer) {
                Ok(Step::Done(_)) => "done".to_owned(),
                Ok(Step::Wait { why, at_least }) => format!("{why}, {}", at_least.unwrap().as_secs()),
                Err(error) => error.to_string(),
            }
        };
        assert_eq!(told(200, "{}"), "done");
        assert_eq!(told(429, ""), "Stripe answers 429 Too Many Requests, 7");
        assert_eq!(told(503, ""), "Stripe answers 503 Service Unavailable, 7");
        let said = told(401, r#"{"error":{"message":"Invalid API Key provided: sk_live_****"}}"#);
        assert!(said.contains("stripe.api_key") && said.ends_with("Invalid API Key provided: sk_live_****"), "{said}");
        assert!(told(403, "").contains("may not read events"));
        assert!(told(302, "").contains("stripe.api_url leads elsewhere"));
        assert!(told(400, r#"{"error":{"message":"No such type"}}"#).ends_with("No such type"));
    }
}
