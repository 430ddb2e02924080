//! By how many partitions the event stream numbers its messages, and how that is doubled.
//!
//! The number stands in the stream's subject transform and nowhere else on the server. Messages that are stored keep the
//! number they were given, so only what divides evenly may follow: who knows how to halve a number understands all of them.

use async_nats::jetstream::Context;
use serde_json::Value;

use super::{
    EVENTS, StreamError,
    api::{self, StreamInfo},
};
use crate::event::ids::StreamSequence;

/// How the event stream numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Numbering {
    /// By how many partitions; nothing where the transform is none of ours.
    pub partitions: Option<u16>,
    /// The last message of the stream.
    pub last: StreamSequence,
}

/// The transform that numbers by so many partitions.
pub(super) fn transform(partitions: u16) -> String {
    format!("churn.p.{{{{partition({partitions},1,2)}}}}.{{{{wildcard(1)}}}}.{{{{wildcard(2)}}}}")
}

/// By how many partitions a stream's transform numbers.
pub(super) fn number(subject_transform: &Value) -> Option<u16> {
    let dest = subject_transform.get("dest")?.as_str()?;
    let number = dest.strip_prefix("churn.p.{{partition(")?.split_once(',')?.0.parse().ok()?;
    (dest == transform(number)).then_some(number)
}

/// Doubled from the other some times, or the same.
pub(super) fn follows(number: u16, from: u16) -> bool {
    from > 0 && number.is_multiple_of(from) && (number / from).is_power_of_two()
}

/// How the event stream numbers, according to its leader.
pub async fn look(context: &Context) -> Result<Numbering, StreamError> {
    Ok(numbering(&api::stream_info(context, EVENTS).await?))
}

/// Has messages numbered by so many partitions from now on; says by how many they were before. Doing it again does nothing.
pub async fn set(context: &Context, partitions: u16) -> Result<Numbering, StreamError> {
    let found = api::stream_info(context, EVENTS).await?;
    let before = numbering(&found);
    if before.partitions == Some(partitions) {
        return Ok(before);
    }
    let mut config = found.config;
    let transform = serde_json::json!({ "src": "churn.events.*.*", "dest": transform(partitions) });
    config.insert("subject_transform".to_owned(), transform);
    api::request::<_, StreamInfo>(context, &format!("STREAM.UPDATE.{EVENTS}"), EVENTS, &config).await?;
    Ok(before)
}

/// Whether this user may change the event stream: asks for the change of nothing.
pub async fn may_change(context: &Context) -> Result<(), StreamError> {
    let config = api::stream_info(context, EVENTS).await?.config;
    api::request::<_, StreamInfo>(context, &format!("STREAM.UPDATE.{EVENTS}"), EVENTS, &config).await?;
    Ok(())
}

fn numbering(info: &StreamInfo) -> Numbering {
    let partitions = info.config.get("subject_transform").and_then(number);
    Numbering { partitions, last: StreamSequence(info.state.last_seq) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_transform_is_read_as_it_is_written() {
        for partitions in [1, 16, 32, 1_024] {
            assert_eq!(number(&json!({ "src": "churn.events.*.*", "dest": transform(partitions) })), Some(partitions));
        }
        for other in ["churn.p.{{partition(16,1)}}.{{wildcard(1)}}", "churn.p.16", "x"] {
            assert_eq!(number(&json!({ "dest": other })), None, "{other}");
        }
        assert_eq!(number(&Value::Null), None);
    }

    #[test]
    fn only_doublings_follow() {
        let following: Vec<u16> = (0..=128).filter(|number| follows(*number, 16)).collect();
        assert_eq!(following, [16, 32, 64, 128]);
        assert!(!follows(16, 0) && !follows(16, 32));
    }
}
