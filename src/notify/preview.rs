//! What would be sent, without sending it.

use serde_json::Value;

use super::{
    message::{Notice, Wording},
    slack,
    templates::{self, Texts},
    webhook,
};
use crate::store::channels::Templates;

/// A mail's texts.
pub fn mail(templates: &Templates, notice: &Notice, public_url: Option<&str>) -> Texts {
    templates::render(templates, &Wording::of(notice, public_url))
}

/// What Slack is sent: `text` and `blocks`.
pub fn slack(templates: &Templates, notice: &Notice, public_url: Option<&str>) -> Value {
    slack::message(templates, &Wording::of(notice, public_url))
}

/// The body of a webhook.
pub fn webhook(notice: &Notice) -> String {
    webhook::body(notice)
}
