//! The risk service: what is asked at `churn.risk.<account>.<customer>`.

use serde::Deserialize;

use super::service::{Asked, Offer, Refusal};
use crate::event::time::Timestamp;

/// What is offered.
pub const OFFER: Offer = Offer {
    name: "churnd-risk",
    description: "Churn risk of a customer: 0 safe, 100 at risk",
    endpoints: &[("risk", "churn.risk.*.*")],
};

/// What somebody wants to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The tenant, as the subject names it.
    pub account: String,
    /// The customer's subject token.
    pub token: String,
    /// As of when; now if absent.
    pub as_of: Option<Timestamp>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request {
    #[serde(default)]
    as_of: Option<Timestamp>,
}

/// Reads a question.
pub fn question(asked: &Asked) -> Result<Question, Refusal> {
    let mut tokens = asked.subject.split('.').skip(2);
    let (Some(account), Some(token)) = (tokens.next(), tokens.next()) else {
        return Err(Refusal { code: 400, text: "ask churn.risk.<account>.<customer>".to_owned() });
    };
    let request = if asked.payload.is_empty() {
        Request { as_of: None }
    } else {
        serde_json::from_slice(&asked.payload).map_err(|error| Refusal {
            code: 400,
            text: format!("the request must be empty or {{\"asOf\":\"2026-03-01T12:00:00Z\"}}: {error}"),
        })?
    };
    Ok(Question { account: account.to_owned(), token: token.to_owned(), as_of: request.as_of })
}
