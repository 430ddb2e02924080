//! Dead letters: messages that could not be used, kept with the reason, to be looked at and replayed.
//!
//! A letter keeps the original body and headers and says in headers of its own why and whence it came. What exceeds the
//! server's limit together with those headers is cut; the original is still in its stream, and a replay takes it there.

use std::time::Duration;

use async_nats::{
    HeaderMap,
    header::NATS_MESSAGE_ID,
    jetstream::{
        Context,
        stream::{DirectGetErrorKind, Stream},
    },
};
use bytes::Bytes;
use uuid::Uuid;

use super::{
    DEAD, StreamError, api, erase,
    publisher::{Outgoing, PubAck, PublishError, Publisher},
    reader::{RawMessage, Reader, ReaderConfig, ReaderError},
};
use crate::event::{ids::StreamSequence, time::Timestamp};

/// The stable code of the reason.
pub const REASON: &str = "Churnd-Reason";
/// The reason in words.
pub const DETAIL: &str = "Churnd-Detail";
/// Which step could not use the message.
pub const STAGE: &str = "Churnd-Stage";
/// The subject that the message was published to.
pub const SUBJECT: &str = "Churnd-Subject";
/// The stream that the message stands in.
pub const STREAM: &str = "Churnd-Stream";
/// The message's sequence there.
pub const SEQUENCE: &str = "Churnd-Sequence";
/// The size of the original body, where it was cut.
pub const TRUNCATED: &str = "Churnd-Truncated";
/// The `Nats-Msg-Id` that the message came with.
pub const MESSAGE_ID: &str = "Churnd-Message-Id";

/// Headers that the server acts on or adds: they must not act again when the letter is stored or replayed.
const SERVER_HEADERS: &str = "nats-";
const HEARTBEAT: Duration = Duration::from_secs(1);
const HEADERS_PER_LETTER: usize = 4 << 10;

/// A message that could not be used.
#[derive(Clone, Debug)]
pub struct DeadLetter {
    /// Where to: `churn.dead.<account>.<customer>`.
    pub dead_subject: String,
    /// The stable code of the reason.
    pub reason: String,
    /// The reason in words; no payload in it.
    pub detail: String,
    /// Which step could not use the message.
    pub stage: String,
    /// The subject that the message was published to.
    pub subject: String,
    /// The stream that the message stands in.
    pub stream: String,
    /// The message's sequence there.
    pub sequence: StreamSequence,
    /// The body as it came.
    pub payload: Bytes,
    /// The headers as they came.
    pub headers: Option<HeaderMap>,
}

impl DeadLetter {
    /// The message to publish; `max_payload` is the server's limit for body and headers together.
    pub fn outgoing(&self, max_payload: usize) -> Outgoing {
        let mut headers = kept_headers(self.headers.as_ref());
        if size_of_headers(&headers) + 2 * HEADERS_PER_LETTER > max_payload {
            headers = HeaderMap::new();
        }
        if let Some(id) = self.headers.as_ref().and_then(|headers| headers.get(NATS_MESSAGE_ID)) {
            headers.insert(MESSAGE_ID, id.as_str());
        }
        headers.insert(REASON, one_line(&self.reason).as_str());
        headers.insert(DETAIL, one_line(&self.detail).as_str());
        headers.insert(STAGE, one_line(&self.stage).as_str());
        headers.insert(SUBJECT, one_line(&self.subject).as_str());
        headers.insert(STREAM, one_line(&self.stream).as_str());
        headers.insert(SEQUENCE, self.sequence.to_string().as_str());
        let room = max_payload.saturating_sub(size_of_headers(&headers) + HEADERS_PER_LETTER);
        let mut payload = self.payload.clone();
        if payload.len() > room {
            headers.insert(TRUNCATED, payload.len().to_string().as_str());
            payload.truncate(room);
        }
        Outgoing::new(self.dead_subject.clone(), payload)
            .with_headers(headers)
            .with_id(format!("dead:{}:{}", self.stream, self.sequence))
    }
}

/// Publishes a letter and waits until it is stored.
pub async fn publish(publisher: &Publisher, letter: &DeadLetter) -> Result<PubAck, PublishError> {
    publisher.publish(letter.outgoing(publisher.context().client().max_payload())).await
}

/// Publishes letters, a window of them under way at once; the results come in the same order.
pub async fn publish_all<'a, I>(publisher: &Publisher, letters: I) -> Vec<Result<PubAck, PublishError>>
where
    I: IntoIterator<Item = &'a DeadLetter>,
    I::IntoIter: Send,
{
    let most = publisher.context().client().max_payload();
    publisher.publish_all(letters.into_iter().map(|letter| letter.outgoing(most))).await
}

/// Which letters to look at.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Only this account's.
    pub account: Option<String>,
    /// Only those with this reason.
    pub reason: Option<String>,
    /// Only those after this one.
    pub after: StreamSequence,
    /// At most so many.
    pub limit: Option<usize>,
}

/// A letter as it stands in the stream.
#[derive(Clone, Debug)]
pub struct StoredLetter {
    /// Its own sequence among the dead letters.
    pub sequence: StreamSequence,
    /// When it was stored.
    pub stored_at: Timestamp,
    /// What it says.
    pub letter: DeadLetter,
    /// The body was cut; its original size.
    pub truncated: Option<usize>,
}

/// Why a letter was not replayed.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// There is no such letter.
    #[error("there is no dead letter {0}")]
    Missing(StreamSequence),
    /// The letter lacks a header, so nobody knows where it belongs.
    #[error("dead letter {sequence} has no header {header}")]
    Unaddressed {
        /// The letter's sequence.
        sequence: StreamSequence,
        /// The missing header.
        header: &'static str,
    },
    /// The letter was cut, and its original is gone.
    #[error("dead letter {sequence} was cut, and message {original} of {stream} is gone")]
    OriginalGone {
        /// The letter's sequence.
        sequence: StreamSequence,
        /// Where the original stood.
        stream: String,
        /// Its sequence there.
        original: StreamSequence,
    },
    /// The message was not stored again; the letter is kept.
    #[error("the message of dead letter {sequence} was not published; the letter is kept")]
    Publish {
        /// The letter's sequence.
        sequence: StreamSequence,
        /// Why.
        #[source]
        source: PublishError,
    },
    /// The server could not be asked.
    #[error(transparent)]
    Stream(#[from] StreamError),
}

/// Lists letters, oldest first; letters that come while it reads may be left out.
pub async fn list(context: &Context, selection: &Selection) -> Result<Vec<StoredLetter>, StreamError> {
    let last = api::stream_info(context, DEAD).await?.state.last_seq;
    let subject = format!("churn.dead.{}.*", selection.account.as_deref().unwrap_or("*"));
    let from = StreamSequence(selection.after.0 + 1);
    if erase::next_of(context, DEAD, &subject, from).await?.is_none() {
        return Ok(Vec::new());
    }
    let name = format!("churnd-dead-{}", Uuid::new_v4().simple());
    let mut config = ReaderConfig::new(name, selection.after);
    if selection.reason.is_none() {
        config.batch = selection.limit.map_or(config.batch, |limit| limit.clamp(1, config.batch));
    }
    config.filter = Some(subject);
    // Where others' letters follow, a heartbeat tells that nothing more comes.
    config.heartbeat = HEARTBEAT;
    let mut reader = Reader::open(context, DEAD, config);
    let mut letters = Vec::new();
    let most = selection.limit.unwrap_or(usize::MAX);
    let mut done = false;
    while letters.len() < most && !done {
        let batch = match reader.next_batch().await {
            Ok(batch) => batch,
            // Letters are deleted when they are replayed, the oldest too.
            Err(ReaderError::Overtaken { .. }) => continue,
            Err(ReaderError::Stream(error)) => return Err(error),
            Err(error) => return Err(StreamError::unavailable("listing the dead letters", error)),
        };
        done = batch.caught_up_to.is_some() || batch.position.0 >= last;
        let stored = batch.messages.into_iter().map(|message| {
            let RawMessage { subject, payload, headers, sequence, stored_at, .. } = message;
            stored(sequence, stored_at, &subject, headers.as_ref(), payload)
        });
        let wanted =
            |letter: &StoredLetter| selection.reason.as_ref().is_none_or(|reason| *reason == letter.letter.reason);
        letters.extend(stored.filter(wanted).take(most - letters.len()));
    }
    reader.close().await;
    Ok(letters)
}

/// Reads one letter.
pub async fn get(context: &Context, sequence: StreamSequence) -> Result<Option<StoredLetter>, StreamError> {
    let stream = dead_stream(context).await?;
    let message = match stream.direct_get(sequence.0).await {
        Ok(message) => message,
        Err(error) if error.kind() == DirectGetErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(StreamError::unavailable(format!("reading dead letter {sequence}"), error)),
    };
    let millis = i64::try_from(message.time.unix_timestamp_nanos() / 1_000_000).unwrap_or(i64::MAX);
    let (sequence, stored_at) = (StreamSequence(message.sequence), Timestamp::from_millis(millis));
    Ok(Some(stored(sequence, stored_at, &message.subject, Some(&message.headers), message.payload)))
}

/// Publishes the letter's message again to the subject it came by, and deletes the letter once that is confirmed.
pub async fn replay(publisher: &Publisher, sequence: StreamSequence) -> Result<PubAck, ReplayError> {
    let context = publisher.context();
    let stored = get(context, sequence).await?.ok_or(ReplayError::Missing(sequence))?;
    let letter = &stored.letter;
    for (header, value) in [(SUBJECT, &letter.subject), (STREAM, &letter.stream)] {
        if value.is_empty() {
            return Err(ReplayError::Unaddressed { sequence, header });
        }
    }
    let payload = match stored.truncated {
        None => letter.payload.clone(),
        Some(_) => original(context, &stored).await?,
    };
    let account = account_of(&letter.subject);
    let message = Outgoing::new(letter.subject.clone(), payload)
        .with_headers(kept_headers(letter.headers.as_ref()))
        .with_id(format!("{account}:replay:{}:{}", letter.stream, letter.sequence));
    let ack = publisher.publish(message).await.map_err(|source| ReplayError::Publish { sequence, source })?;
    delete(context, sequence).await?;
    Ok(ack)
}

/// Deletes one letter; `false` if it was gone already.
pub async fn delete(context: &Context, sequence: StreamSequence) -> Result<bool, StreamError> {
    erase::erase(context, DEAD, sequence).await
}

/// Where the message of a letter, as it was read, stands in a stream; nothing if it stands in another.
pub fn original_in(letter: &RawMessage, stream: &str) -> Option<StreamSequence> {
    let header = |name| letter.headers.as_ref()?.get(name).map(async_nats::HeaderValue::as_str);
    let sequence = header(SEQUENCE).filter(|_| header(STREAM) == Some(stream))?;
    sequence.parse().ok().map(StreamSequence)
}

/// `churn.events.<account>.<customer>`, `churn.webhooks.stripe.<account>`.
fn account_of(subject: &str) -> &str {
    let mut tokens = subject.split('.').skip(1);
    let at = if tokens.next() == Some("webhooks") { 1 } else { 0 };
    tokens.nth(at).unwrap_or_default()
}

async fn original(context: &Context, stored: &StoredLetter) -> Result<Bytes, ReplayError> {
    let letter = &stored.letter;
    let gone = || ReplayError::OriginalGone {
        sequence: stored.sequence,
        stream: letter.stream.clone(),
        original: letter.sequence,
    };
    let stream = context.get_stream_no_info(&letter.stream).await.map_err(|_| gone())?;
    match stream.direct_get(letter.sequence.0).await {
        Ok(message) if Some(message.payload.len()) == stored.truncated => Ok(message.payload),
        Ok(_) => Err(gone()),
        Err(error) if error.kind() == DirectGetErrorKind::NotFound => Err(gone()),
        Err(error) => Err(StreamError::unavailable(format!("reading message {}", letter.sequence), error).into()),
    }
}

async fn dead_stream(context: &Context) -> Result<Stream<()>, StreamError> {
    context.get_stream_no_info(DEAD).await.map_err(|error| StreamError::unavailable(DEAD, error))
}

fn stored(
    sequence: StreamSequence,
    stored_at: Timestamp,
    subject: &str,
    headers: Option<&HeaderMap>,
    payload: Bytes,
) -> StoredLetter {
    let text = |name: &'static str| {
        headers.and_then(|headers| headers.get(name)).map(|value| value.as_str().to_owned()).unwrap_or_default()
    };
    let mut original_headers = HeaderMap::new();
    for (name, values) in headers.into_iter().flat_map(HeaderMap::iter) {
        if !is_ours(name.as_ref()) && !is_the_servers(name.as_ref()) {
            values.iter().for_each(|value| original_headers.append(name.clone(), value.clone()));
        }
    }
    let letter = DeadLetter {
        dead_subject: subject.to_owned(),
        reason: text(REASON),
        detail: text(DETAIL),
        stage: text(STAGE),
        subject: text(SUBJECT),
        stream: text(STREAM),
        sequence: StreamSequence(text(SEQUENCE).parse().unwrap_or(0)),
        payload,
        headers: (!original_headers.is_empty()).then_some(original_headers),
    };
    let truncated = text(TRUNCATED).parse().ok();
    StoredLetter { sequence, stored_at, letter, truncated }
}

/// The original headers without those that the server acts on, and without those of an earlier letter.
fn kept_headers(headers: Option<&HeaderMap>) -> HeaderMap {
    let mut kept = HeaderMap::new();
    for (name, values) in headers.into_iter().flat_map(HeaderMap::iter) {
        if !is_the_servers(name.as_ref()) && !is_ours(name.as_ref()) {
            values.iter().for_each(|value| kept.append(name.clone(), one_line(value.as_str()).as_str()));
        }
    }
    kept
}

fn is_the_servers(name: &str) -> bool {
    name.get(..SERVER_HEADERS.len()).is_some_and(|start| start.eq_ignore_ascii_case(SERVER_HEADERS))
}

fn is_ours(name: &str) -> bool {
    [REASON, DETAIL, STAGE, SUBJECT, STREAM, SEQUENCE, TRUNCATED, MESSAGE_ID]
        .iter()
        .any(|ours| ours.eq_ignore_ascii_case(name))
}

fn one_line(text: &str) -> String {
    text.chars().map(|char| if char.is_control() { ' ' } else { char }).collect()
}

fn size_of_headers(headers: &HeaderMap) -> usize {
    let size = |name: &str, value: &str| name.len() + value.len() + 4;
    headers.iter().flat_map(|(name, values)| values.iter().map(move |value| size(name.as_ref(), value.as_str()))).sum()
}
