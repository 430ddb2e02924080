//! The intervention service: requests from NATS, with the bodies and the entries of HTTP, noted by the intervention desk.

use async_nats::Client;
use bytes::Bytes;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;

use super::risk;
use crate::{
    event::{
        ids::{AccountId, CustomerId},
        subject,
    },
    pipeline::interventions::{
        InterventionChange, InterventionDesk, InterventionEntry, InterventionError, InterventionRequest, StatusFilter,
        TypeFilter,
    },
    store::interventions::InterventionQuery,
    stream::{
        StreamError,
        intervention_service::{self, Wish},
        service::{self, Asked, Refusal},
    },
};

/// Entries of a list, and the most of them: their notes must fit into one message.
const LIST: usize = 50;

/// An intervention to begin: as over HTTP, and whose it is.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Opening {
    customer_id: String,
    #[serde(flatten)]
    request: serde_json::Map<String, serde_json::Value>,
}

/// An intervention to change or to end: as over HTTP, and which it is.
#[derive(Deserialize)]
struct Changing {
    id: Uuid,
    #[serde(flatten)]
    request: serde_json::Map<String, serde_json::Value>,
}

/// Which interventions to list.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
struct Listing {
    customer_id: Option<String>,
    status: StatusFilter,
    #[serde(rename = "type")]
    kind: TypeFilter,
    limit: Option<usize>,
    /// The last one of the page before.
    before: Option<Uuid>,
}

#[derive(Serialize)]
struct Listed {
    interventions: Vec<InterventionEntry>,
    /// To be sent as `before` for the next page; null on the last.
    before: Option<Uuid>,
}

/// Answers until `stop`.
pub(super) async fn serve(
    client: Client,
    tracker: TaskTracker,
    stop: CancellationToken,
    desk: InterventionDesk,
) -> Result<(), StreamError> {
    service::serve(intervention_service::OFFER, &client, &tracker, stop, move |asked| {
        let desk = desk.clone();
        async move { answer(&desk, &asked).await }
    })
    .await
}

async fn answer(desk: &InterventionDesk, asked: &Asked) -> Result<Bytes, Refusal> {
    let (account, wish) = intervention_service::wish(asked)?;
    let account = AccountId::parse(account).map_err(invalid)?;
    let entry = match wish {
        Wish::Open => {
            let Opening { customer_id, request } = read(&asked.payload)?;
            let customer = CustomerId::parse(&customer_id).map_err(invalid)?;
            let request: InterventionRequest = as_over_http(request)?;
            desk.expect_customer(&account, &subject::encode(&customer)).await.map_err(refusal)?;
            desk.open(&account, &customer, &request).await.map_err(refusal)?.0
        }
        Wish::Assign | Wish::Close => {
            let Changing { id, request } = read(&asked.payload)?;
            let request: InterventionChange = as_over_http(request)?;
            if request.outcome.flatten().is_some() != (wish == Wish::Close) {
                return Err(invalid("`close` takes an `outcome`, `assign` takes none"));
            }
            desk.change(&account, id, &request).await.map_err(refusal)?
        }
        Wish::List => return list(desk, &account, &asked.payload).await,
    };
    Ok(json(&InterventionEntry::of(entry)))
}

async fn list(desk: &InterventionDesk, account: &AccountId, payload: &[u8]) -> Result<Bytes, Refusal> {
    let asked: Listing = if payload.is_empty() { Listing::default() } else { read(payload)? };
    let limit = asked.limit.unwrap_or(LIST);
    if !(1..=LIST).contains(&limit) {
        return Err(invalid(format!("`limit` is {limit}: send 1 to {LIST}")));
    }
    let customer = asked.customer_id.map(|id| CustomerId::parse(&id)).transpose().map_err(invalid)?;
    let token = customer.as_ref().map(subject::encode);
    if let Some(token) = &token {
        desk.expect_customer(account, token).await.map_err(refusal)?;
    }
    let before = match asked.before {
        Some(id) => Some((desk.load(account, id).await.map_err(refusal)?.created_at, id)),
        None => None,
    };
    let query = InterventionQuery {
        token: token.as_ref().map(subject::Token::as_str),
        open: asked.status.open(),
        kind: asked.kind.of_type(),
        before,
        limit: limit + 1,
    };
    let mut rows = desk.list(account, &query).await.map_err(refusal)?;
    let is_last = rows.len() <= limit;
    rows.truncate(limit);
    let before = rows.last().filter(|_| !is_last).map(|row| row.id);
    Ok(json(&Listed { interventions: rows.into_iter().map(InterventionEntry::of).collect(), before }))
}

fn read<T: DeserializeOwned>(payload: &[u8]) -> Result<T, Refusal> {
    // Lists of values would be taken for fields in their order.
    if payload.trim_ascii_start().first() != Some(&b'{') {
        return Err(invalid("the request must be a JSON object"));
    }
    serde_json::from_slice(payload).map_err(|error| invalid(format!("the request cannot be read: {error}")))
}

fn as_over_http<T: DeserializeOwned>(fields: serde_json::Map<String, serde_json::Value>) -> Result<T, Refusal> {
    serde_json::from_value(fields.into()).map_err(|error| invalid(format!("the request cannot be read: {error}")))
}

fn json(answer: &impl Serialize) -> Bytes {
    serde_json::to_vec(answer).expect("an entry has only plain values").into()
}

fn invalid(problem: impl ToString) -> Refusal {
    let text: String = problem.to_string().chars().filter(|char| !char.is_control()).take(300).collect();
    Refusal { code: 400, text }
}

fn refusal(error: InterventionError) -> Refusal {
    let code = match error {
        InterventionError::Risk(error) => return risk::refusal(error),
        InterventionError::Invalid(_) => 400,
        InterventionError::Unknown => 404,
        InterventionError::Exists | InterventionError::Closed => 409,
    };
    Refusal { code, text: error.to_string() }
}
