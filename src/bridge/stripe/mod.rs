//! `/webhooks/stripe`: what Stripe sends comes in, once it has proven itself.
//!
//! The key in the address only names the account; the signature over the raw body proves the sender. Nothing else is looked
//! at here: every type is stored as it came and answered with 200 after its PubAck, and what it says is found out behind the
//! stream. Repeats carry the same message id.

mod secrets; // what webhooks are signed with

use axum::{
    Json,
    extract::{FromRequestParts as _, Request, State},
    http::{HeaderMap, StatusCode},
};
use bytes::Bytes;
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

pub use self::secrets::SigningSecrets;
use self::secrets::Unproven;
use super::{
    access::{Addressed, Grant},
    body::{self, BodyLimits},
    context::RequestContext,
    error::{ApiError, Problem},
    state::Bridge,
};
use crate::{
    event::{
        ids::AccountId,
        stripe::{event_id, signature::InvalidSignature},
        subject::webhook_subject,
    },
    stream::publisher::Outgoing,
    telemetry::metrics::IngestLabels,
};

/// The header that proves the sender.
const SIGNATURE: &str = "stripe-signature";
/// The most bytes of a webhook; Stripe's largest are far smaller.
const MAX_WEBHOOK_BYTES: usize = 512 * 1024;

/// The route that Stripe calls.
pub fn routes() -> OpenApiRouter<Bridge> {
    OpenApiRouter::new().routes(routes!(receive))
}

/// The answer to a webhook that is stored.
#[derive(Serialize, ToSchema)]
struct Received {
    /// Always true.
    received: bool,
}

#[utoipa::path(
    post, path = "/webhooks/stripe", tag = "Webhooks",
    params(
        ("key" = Option<String>, Query, description = "Any of your keys; it only names your account"),
        ("Stripe-Signature" = String, Header, description = "Proves that Stripe sent the body: `t=…,v1=…`"),
    ),
    request_body(content = serde_json::Value, description = "An event as Stripe sends it, signed; at most 512 KB, not compressed"),
    responses(
        (status = OK, description = "The webhook is stored", body = Received),
        (status = "default", description = "Why not", body = inline(Problem<'static>), content_type = "application/problem+json"),
    ),
    security(("publishableKey" = []), ("secretKey" = [])),
)]
async fn receive(State(bridge): State<Bridge>, request: Request) -> Result<Json<Received>, ApiError> {
    let begun = Instant::now();
    let outcome = bridge.take_webhook(request).await;
    bridge.metrics.webhook_processing_duration_seconds.observe(begun.elapsed().as_secs_f64());
    outcome.map(|()| Json(Received { received: true }))
}

impl Bridge {
    async fn take_webhook(&self, request: Request) -> Result<(), ApiError> {
        let (mut parts, body) = request.into_parts();
        let Addressed(grant) = Addressed::from_request_parts(&mut parts, self).await?;
        let limits = BodyLimits { bytes: MAX_WEBHOOK_BYTES, time: self.body_time, compressed: false };
        let body = body::read(&parts.headers, body, limits).await?;
        let verified = self.verify(&grant, &parts.headers, &body).await;
        let result = verified.as_ref().map_or_else(ApiError::code, |()| "verified");
        self.metrics.webhook_verifications.get_or_create(&IngestLabels { source: "stripe", result }).inc();
        verified?;
        let headers = parts.extensions.get::<RequestContext>().map(|context| context.message_headers(false));
        self.intake.publish_message(&message(grant.account(), body).with_headers(headers.unwrap_or_default())).await
    }

    async fn verify(&self, grant: &Grant, headers: &HeaderMap, body: &[u8]) -> Result<(), ApiError> {
        let header = signature_of(headers)?;
        self.signing_secrets.verify(grant.account(), header, body, self.now()).await.map_err(
            |unproven| match unproven {
                Unproven::Invalid(invalid) => refused(grant.account(), invalid),
                Unproven::Unknown(cause) => {
                    ApiError::unavailable("the signing secrets cannot be looked up now: try again", 2).because(cause)
                }
            },
        )
    }
}

/// The one header that proves the sender.
fn signature_of(headers: &HeaderMap) -> Result<&str, ApiError> {
    let bad = |code, detail| ApiError::new(StatusCode::BAD_REQUEST, code, detail);
    let mut values = headers.get_all(SIGNATURE).iter();
    match (values.next(), values.next()) {
        (None, _) => Err(bad("missing_signature", "the header Stripe-Signature is missing: only Stripe may call this")),
        (Some(_), Some(_)) => Err(bad("repeated_signature", "the header Stripe-Signature stands there twice")),
        (Some(only), None) => {
            only.to_str().map_err(|_| bad("no_time", "the header Stripe-Signature holds foreign characters"))
        }
    }
}

/// Says which check failed and what to do; never what was expected.
fn refused(account: &AccountId, invalid: InvalidSignature) -> ApiError {
    let next = match invalid {
        InvalidSignature::NoSecret => {
            format!(": `churnd key add --account {account} --kind stripe --secret-file FILE` adds the endpoint's")
        }
        InvalidSignature::Mismatch => "; `churnd key list` shows the account's signing secrets".to_owned(),
        _ => String::new(),
    };
    ApiError::new(StatusCode::BAD_REQUEST, invalid.code(), format!("{invalid}{next}"))
}

/// The message for the stream: the body as it came, under an id that is the same for every delivery.
pub fn message(account: &AccountId, body: impl Into<Bytes>) -> Outgoing {
    let body = body.into();
    let fit = |id: &String| id.bytes().all(|byte| byte.is_ascii_graphic());
    // A body that shows no id will be buried with a reason; the same body once.
    let id = event_id(&body).filter(fit).unwrap_or_else(|| format!("sha256-{}", hex::encode(Sha256::digest(&body))));
    Outgoing::new(webhook_subject(account), body).with_id(format!("{account}:{id}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_named_after_its_event() {
        let account = AccountId::parse("acme").unwrap();
        let id = |body: &str| message(&account, body.to_owned()).message_id.unwrap();
        assert_eq!(id(r#"{"object":"event","id":"evt_1"}"#), "acme:evt_1");
        assert_eq!(id(r#"{"object":"v2.core.event","id":"evt_2","snapshot_event":"evt_1"}"#), "acme:evt_2");
        for body in [
            "",
            "nothing",
            "{}",
            "[]",
            r#"{"id":7}"#,
            r#"{"id":""}"#,
            r#"{"id":"a\nb"}"#,
            r#"{"id":"a b"}"#,
            r#"{"id":"ü"}"#,
        ] {
            assert!(id(body).starts_with("acme:sha256-"), "{body}");
        }
        assert_ne!(id("{}"), id("[]"));
        let long = format!(r#"{{"id":"{}"}}"#, "x".repeat(300));
        assert!(id(&long).starts_with("acme:sha256-"));
    }

    #[test]
    fn one_header_proves_the_sender() {
        let mut headers = HeaderMap::new();
        assert_eq!(signature_of(&headers).unwrap_err().code(), "missing_signature");
        headers.append("Stripe-Signature", "t=1".parse().unwrap());
        assert_eq!(signature_of(&headers).unwrap(), "t=1");
        headers.append("stripe-signature", "t=2".parse().unwrap());
        assert_eq!(signature_of(&headers).unwrap_err().code(), "repeated_signature");
    }
}
