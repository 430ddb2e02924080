//! A line becomes a message with an id that is the same in every run, and a message becomes an outcome.

use std::{collections::HashSet, io};

use xxhash_rust::xxh3::xxh3_128;

use super::Line;
use crate::{
    event::{
        decode::{Encoding, Reject, decode},
        ids::{AccountId, CustomerId, StreamSequence},
        subject::{encode, event_subject},
    },
    stream::publisher::{Outgoing, PublishError, Publisher},
};

/// A line on its way.
pub(super) struct Message {
    number: u64,
    end: u64,
    content: Content,
}

enum Content {
    Event(Box<Outgoing>),
    Bad(Reject),
    Unreadable(io::Error),
}

/// A line whose fate is known.
pub(super) struct Settled {
    /// The line, counted from 1.
    pub(super) number: u64,
    /// The byte behind it.
    pub(super) end: u64,
    /// What became of it.
    pub(super) outcome: Outcome,
}

/// What became of a line.
pub(super) enum Outcome {
    /// The stream holds it, at this place.
    Stored(StreamSequence),
    /// The stream held it already.
    Repeated,
    /// It is no event.
    Bad(Reject),
    /// It could not be stored.
    Failed(PublishError),
    /// It could not be read.
    Unreadable(io::Error),
}

/// The message that a line asks for.
pub(super) fn of_line(line: Line, account: &AccountId) -> Message {
    let event = line.text.and_then(|text| outgoing(account, line.number, text));
    let content = event.map_or_else(Content::Bad, |event| Content::Event(Box::new(event)));
    Message { number: line.number, end: line.end, content }
}

/// The end of a file that broke off.
pub(super) fn unreadable(error: io::Error) -> Message {
    Message { number: 0, end: 0, content: Content::Unreadable(error) }
}

/// Publishes a message, unless it is among those that arrived before.
pub(super) async fn send(publisher: &Publisher, arrived: &HashSet<String>, message: Message) -> Settled {
    let outcome = match message.content {
        Content::Bad(reject) => Outcome::Bad(reject),
        Content::Unreadable(error) => Outcome::Unreadable(error),
        Content::Event(event) if event.message_id.as_ref().is_some_and(|id| arrived.contains(id)) => Outcome::Repeated,
        Content::Event(event) => match publisher.publish(*event).await {
            Ok(ack) if ack.duplicate => Outcome::Repeated,
            Ok(ack) => Outcome::Stored(ack.sequence),
            Err(error) => Outcome::Failed(error),
        },
    };
    Settled { number: message.number, end: message.end, outcome }
}

/// The message id of a line, if it is an event.
pub(super) fn id_of(line: Line, account: &AccountId) -> Option<String> {
    outgoing(account, line.number, line.text.ok()?).ok()?.message_id
}

fn outgoing(account: &AccountId, number: u64, text: Vec<u8>) -> Result<Outgoing, Reject> {
    let mut scratch = Vec::new();
    let event = decode(&text, Encoding::Json, &mut scratch)?;
    let customer = event.customer_id.as_deref().ok_or(Reject::MissingCustomer)?;
    let customer = CustomerId::parse(customer).map_err(|_| Reject::InvalidCustomerId)?;
    let id = match event.id.as_deref() {
        // A header holds one line of text; within the state, the event's own id counts.
        Some(id) if id.bytes().all(|byte| matches!(byte, b' '..=b'~')) && id.trim() == id => format!("{account}:{id}"),
        Some(id) => format!("{account}:id-{:032x}", xxh3_128(id.as_bytes())),
        // The same line may well stand in a file twice and mean two events: its number tells them apart.
        None => format!("{account}:import-{:032x}", xxh3_128(&[&number.to_be_bytes(), text.as_slice()].concat())),
    };
    let subject = event_subject(account, &encode(&customer));
    Ok(Outgoing::new(subject, text).with_id(id))
}

#[cfg(test)]
mod tests {
    use super::{super::line_of, *};

    fn id(number: u64, text: &str) -> String {
        id_of(line_of(number, text), &AccountId::parse("acme").unwrap()).unwrap()
    }

    #[test]
    fn a_line_has_the_same_id_in_every_run() {
        let line = r#"{"customerId":"a","event":"login"}"#;
        assert_eq!(id(1, line), id(1, line));
        assert_ne!(id(1, line), id(2, line));
        assert!(id(1, line).starts_with("acme:import-"));
    }

    #[test]
    fn an_events_own_id_goes_first_and_never_breaks_a_header() {
        assert_eq!(id(1, r#"{"customerId":"a","event":"login","id":"e 1"}"#), "acme:e 1");
        for odd in [r"a\r\nB: c", "é", " e"] {
            let id = id(1, &format!(r#"{{"customerId":"a","event":"login","id":"{odd}"}}"#));
            assert!(id.starts_with("acme:id-") && id.len() == 40, "{id}");
        }
    }

    #[test]
    fn a_line_without_a_customer_is_bad() {
        let message = of_line(line_of(1, r#"{"event":"login"}"#), &AccountId::parse("acme").unwrap());
        assert!(matches!(message.content, Content::Bad(Reject::MissingCustomer)));
    }
}
