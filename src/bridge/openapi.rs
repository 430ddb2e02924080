//! What stands in `/openapi.json` besides what the handlers declare themselves.

use utoipa::openapi::{
    Info, License, OpenApi, Tag,
    security::{ApiKey, ApiKeyValue, SecurityScheme},
};

const DESCRIPTION: &str = "Takes product events and Stripe's webhooks, and tells which customers are about to leave. \
    Risk is 0 (safe) to 100 (at risk). A publishable key may track and identify; a secret key may do everything its account may. \
    Errors are RFC 9457 problem details with a stable `code`. Send events with an `id`: repeats then count once.";

/// Says what the API is, and how keys are sent.
pub fn complete(document: &mut OpenApi) {
    let mut info = Info::new("churnd", env!("CARGO_PKG_VERSION"));
    info.description = Some(DESCRIPTION.to_owned());
    let mut license = License::new("Apache-2.0 OR MIT");
    license.identifier = Some("Apache-2.0 OR MIT".to_owned());
    info.license = Some(license);
    document.info = info;
    document.tags = Some(vec![
        Tag::new("Tracking"),
        Tag::new("Segment"),
        Tag::new("Customers"),
        Tag::new("Channels"),
        Tag::new("Webhooks"),
        Tag::new("Operations"),
    ]);
    let components = document.components.get_or_insert_default();
    for (name, text) in [("publishableKey", "A publishable key, pk_…"), ("secretKey", "A secret key, sk_…")] {
        let value = ApiKeyValue::with_description("x-api-key", text);
        components.add_security_scheme(name, SecurityScheme::ApiKey(ApiKey::Header(value)));
    }
}
