//! The intervention service: what is asked at `churn.interventions.<account>.open`, `.assign`, `.close` and `.list`.

use super::service::{Asked, Offer, Refusal};

/// What is offered.
pub const OFFER: Offer = Offer {
    name: "churnd-interventions",
    description: "What people do about churn risk, and how it ended",
    endpoints: &[
        ("open", "churn.interventions.*.open"),
        ("assign", "churn.interventions.*.assign"),
        ("close", "churn.interventions.*.close"),
        ("list", "churn.interventions.*.list"),
    ],
};

/// What somebody wants to have done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// An intervention is to begin.
    Open,
    /// It is to be told what type one is of, or what is noted about it.
    Assign,
    /// One is to end.
    Close,
    /// Some are to be listed.
    List,
}

/// The account and the wish that a subject names.
pub fn wish(asked: &Asked) -> Result<(&str, Wish), Refusal> {
    let mut tokens = asked.subject.split('.').skip(2);
    let account = tokens.next().unwrap_or_default();
    let wish = match tokens.next() {
        Some("open") => Wish::Open,
        Some("assign") => Wish::Assign,
        Some("close") => Wish::Close,
        Some("list") => Wish::List,
        _ => {
            let text = "ask churn.interventions.<account>.open, .assign, .close or .list";
            return Err(Refusal { code: 400, text: text.to_owned() });
        }
    };
    Ok((account, wish))
}
