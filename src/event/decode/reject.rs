//! Why a message cannot be used: a stable name for metrics and headers, and a sentence for people.
//!
//! The sentence says what is wrong, where, and what to do; it never quotes the payload, which may hold personal data.

use serde_json::error::Category;

use crate::event::subject::InvalidToken;

/// Why a message cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Reject {
    /// More bytes than an event may have.
    #[error("the event has {bytes} bytes, more than the {limit} allowed: send fewer or shorter properties")]
    Oversize {
        /// What it has; for MessagePack, as JSON where that is longer.
        bytes: usize,
        /// What it may have.
        limit: usize,
    },
    /// Bytes that are not UTF-8.
    #[error("the body is not UTF-8 at byte {position}: encode it as UTF-8")]
    NotUtf8 {
        /// Where, counted from 0.
        position: usize,
    },
    /// Text that is not JSON.
    #[error("the body is not JSON at line {line}, column {column} ({problem}): send one JSON object")]
    NotJson {
        /// The line, counted from 1.
        line: usize,
        /// The column, counted from 1.
        column: usize,
        /// What the parser did not like.
        problem: &'static str,
    },
    /// Bytes that are not the MessagePack of something JSON can say.
    #[error("the body is not usable MessagePack: {problem}; send one map with text keys")]
    NotMessagePack {
        /// What the parser did not like.
        problem: String,
    },
    /// JSON, but not an object.
    #[error("the body is not an object: send one JSON object with at least `event`")]
    NotAnObject,
    /// Arrays or objects nested too deeply.
    #[error("the body nests more than {limit} levels deep: flatten its properties")]
    TooDeep {
        /// How deep it may nest.
        limit: usize,
    },
    /// A NUL character in a text.
    #[error("the text at byte {position} contains a NUL character: remove it")]
    NulCharacter {
        /// Where, counted from 0.
        position: usize,
    },
    /// Half of a surrogate pair, which is no character.
    #[error("the escape at byte {position} is half a surrogate pair: escape characters whole or send them as UTF-8")]
    LoneSurrogate {
        /// Where, counted from 0.
        position: usize,
    },
    /// A known field twice: two readers could understand it differently.
    #[error("the field `{field}` is given twice: send it once")]
    DuplicateField {
        /// Which.
        field: &'static str,
    },
    /// A known field that is no text.
    #[error("the field `{field}` is not a string: send a string or leave it out")]
    NotAString {
        /// Which.
        field: &'static str,
    },
    /// A known field that is no list.
    #[error("the field `{field}` is not a list: send a list")]
    NotAList {
        /// Which.
        field: &'static str,
    },
    /// Traits of another kind.
    #[error("the field `traits` is not an object: send an object or leave it out")]
    TraitsNotAnObject,
    /// No name.
    #[error("the field `event` is missing: name what happened, such as \"login\"")]
    MissingEvent,
    /// An empty or overlong name.
    #[error("the field `event` has {characters} characters: a name has 1 to 100")]
    EventNameLength {
        /// What it has.
        characters: usize,
    },
    /// An overlong id.
    #[error("the field `id` has {characters} characters: an id has at most 100")]
    IdLength {
        /// What it has.
        characters: usize,
    },
    /// A time that cannot be read.
    #[error("the field `timestamp` {problem}: send RFC 3339, such as \"2026-03-01T12:00:00Z\", or leave it out")]
    InvalidTimestamp {
        /// What is wrong with it.
        problem: &'static str,
    },
    /// Properties of another kind.
    #[error("the field `properties` is not an object: send an object or leave it out")]
    PropertiesNotAnObject,
    /// A customer's id of no or too many bytes.
    #[error("the field `customerId` is not a text of 1 to 255 bytes: send the customer's id as in the subject")]
    InvalidCustomerId,
    /// Neither a subject nor the body names the customer.
    #[error("`customerId` is missing: name the customer the event is about")]
    MissingCustomer,
    /// The body names another customer than the subject.
    #[error("the field `customerId` names another customer than the subject: publish under the customer's own subject")]
    CustomerMismatch,
    /// A subject whose last token is no customer's.
    #[error("the subject's customer token is not valid: {0}")]
    InvalidToken(#[from] InvalidToken),
    /// A subject of another form.
    #[error("the subject is not churn.events.<account>.<customer>: publish there")]
    MalformedSubject,
    /// An account that nobody has added.
    #[error("the subject's account is not known: add it with `churnd account add`, then replay")]
    UnknownAccount,
    /// A hashed customer whose id the body does not give.
    #[error("the subject's customer is hashed and the field `customerId` is missing: send the full id in the body")]
    HashedWithoutId,
    /// A Stripe event without its object.
    #[error(
        "the webhook is a thin event, which carries no object: \
         in Stripe, create the event destination with the payload style snapshot"
    )]
    ThinEvent,
    /// A Stripe event that lacks something it must have.
    #[error("the webhook's field `{field}` {problem}: replay it from Stripe, or report its API version if that fails")]
    MalformedWebhook {
        /// The field's path.
        field: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },
}

impl Reject {
    /// The reason for an error of the JSON parser, without any of the text; the reader takes every object.
    pub(in crate::event) fn of_json(error: &serde_json::Error) -> Self {
        let problem = match error.classify() {
            Category::Data => return Self::NotAnObject,
            Category::Eof => "it ends too early",
            Category::Syntax | Category::Io => "it breaks the syntax",
        };
        Self::NotJson { line: error.line(), column: error.column(), problem }
    }

    /// The reason's stable name, for headers and metrics.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Oversize { .. } => "oversize",
            Self::NotUtf8 { .. } => "not_utf8",
            Self::NotJson { .. } => "not_json",
            Self::NotMessagePack { .. } => "not_message_pack",
            Self::NotAnObject => "not_an_object",
            Self::TooDeep { .. } => "too_deep",
            Self::NulCharacter { .. } => "nul_character",
            Self::LoneSurrogate { .. } => "lone_surrogate",
            Self::DuplicateField { .. } => "duplicate_field",
            Self::NotAString { .. } => "not_a_string",
            Self::NotAList { .. } => "not_a_list",
            Self::TraitsNotAnObject => "traits_not_an_object",
            Self::MissingEvent => "missing_event",
            Self::EventNameLength { .. } => "event_name_length",
            Self::IdLength { .. } => "id_length",
            Self::InvalidTimestamp { .. } => "invalid_timestamp",
            Self::PropertiesNotAnObject => "properties_not_an_object",
            Self::InvalidCustomerId => "invalid_customer_id",
            Self::MissingCustomer => "missing_customer",
            Self::CustomerMismatch => "customer_mismatch",
            Self::InvalidToken(_) => "invalid_token",
            Self::MalformedSubject => "malformed_subject",
            Self::UnknownAccount => "unknown_account",
            Self::HashedWithoutId => "hashed_without_id",
            Self::ThinEvent => "thin_event",
            Self::MalformedWebhook { .. } => "malformed_webhook",
        }
    }
}
