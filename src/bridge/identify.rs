//! `/api/identify`: who a customer is, at Stripe and by its traits.

use axum::{
    Extension, Json,
    body::Body,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{
    access::Tracker,
    context::RequestContext,
    error::{ApiError, Problem},
    intake::{self, Refusal},
    state::Bridge,
    track::Tracked,
};
use crate::event::{
    contact::is_contact,
    decode::{Encoding, MAX_EVENT_BYTES, Reject, decode},
    ids::CustomerId,
};

/// Who a customer is.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct IdentifyRequest {
    /// The customer, as you name it: 1 to 255 bytes.
    #[schema(required, nullable = false, min_length = 1, max_length = 255, example = "c-17")]
    pub(super) customer_id: Option<String>,
    /// The customer's id at Stripe: its payments count for this customer from now on, those of the past too.
    #[schema(pattern = "^cus_[A-Za-z0-9_-]{1,251}$")]
    pub(super) stripe_customer_id: Option<String>,
    /// What else is known of it.
    pub(super) traits: Option<Map<String, Value>>,
    /// When it was so, in RFC 3339; now if absent.
    #[schema(format = DateTime, min_length = 20)]
    pub(super) timestamp: Option<String>,
    /// Your id of this call: repeats of it count once.
    #[schema(max_length = 100, pattern = r"^[^\x00-\x1f\x7f-\x9f]*$")]
    pub(super) id: Option<String>,
}

#[utoipa::path(
    post, path = "/api/identify", tag = "Tracking",
    request_body(content = IdentifyRequest, description = "JSON, also as text/plain; at most 32 KB, gzip allowed"),
    responses(
        (status = ACCEPTED, description = "It is stored and will be applied", body = Tracked),
        (status = "default", description = "Why not", body = inline(Problem<'static>), content_type = "application/problem+json"),
    ),
    security(("publishableKey" = []), ("secretKey" = [])),
)]
pub(super) async fn identify(
    State(bridge): State<Bridge>,
    Tracker(grant): Tracker,
    Extension(context): Extension<RequestContext>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let body = bridge.read_json(&headers, body, MAX_EVENT_BYTES).await?;
    let request: IdentifyRequest = serde_json::from_slice(&body).map_err(|error| not_an_identify(&error))?;
    let (customer, id, body) = request.into_event(bridge.privacy.store_contact).inspect_err(|_| {
        bridge.intake.count("identify", "rejected");
    })?;
    let event = intake::address(grant.account(), &customer, id, body, &context.message_headers(!grant.is_public()))?;
    let id = bridge.intake.publish("identify", event).await?;
    Ok((StatusCode::ACCEPTED, Json(Tracked { id })).into_response())
}

fn not_an_identify(error: &serde_json::Error) -> ApiError {
    let detail = format!(
        "the body cannot be read at line {}, column {}: send {{\"customerId\":…,\"traits\":{{…}},\"stripeCustomerId\":\"cus_…\"}}",
        error.line(),
        error.column()
    );
    ApiError::new(StatusCode::BAD_REQUEST, "not_an_identify", detail)
}

impl IdentifyRequest {
    /// The customer, the event's id, and its body.
    pub(super) fn into_event(self, keep_contact: bool) -> Result<(CustomerId, String, Vec<u8>), ApiError> {
        let customer = self.customer_id.ok_or(Reject::MissingCustomer).map_err(Refusal::from)?;
        let customer = CustomerId::parse(&customer).map_err(|_| Refusal::from(Reject::InvalidCustomerId))?;
        let mut properties = Map::new();
        if let Some(traits) = self.traits {
            let kept: Map<String, Value> =
                traits.into_iter().filter(|(name, _)| keep_contact || !is_contact(name)).collect();
            properties.insert("traits".to_owned(), kept.into());
        }
        if let Some(stripe_customer) = self.stripe_customer_id {
            properties.insert("stripeCustomerId".to_owned(), stripe_customer.into());
        }
        let links = properties.contains_key("stripeCustomerId");
        let id = self.id.unwrap_or_else(|| Uuid::now_v7().simple().to_string());
        let event = json!({
            "event": "identify", "id": id, "customerId": customer, "timestamp": self.timestamp, "properties": properties,
        });
        let body = event.to_string().into_bytes();
        // What the pipeline will refuse is refused here, where somebody hears of it.
        let mut scratch = Vec::new();
        let event = decode(&body, Encoding::Json, &mut scratch).map_err(Refusal::from)?;
        if links && event.stripe_customer().is_none() {
            let detail = "the field `stripeCustomerId` is not a Stripe customer's id: it begins with cus_";
            return Err(ApiError::new(StatusCode::BAD_REQUEST, "invalid_stripe_customer", detail));
        }
        Ok((customer, id, body))
    }
}
