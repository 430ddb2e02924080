//! Requests to the JetStream API, answered in small views of our own or a [`StreamError`] that names what was asked.

use async_nats::jetstream::{
    Context, ErrorCode,
    context::{RequestError, RequestErrorKind},
    response::Response,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::StreamError;
use crate::event::time::Timestamp;

/// What churnd needs of a stream's description.
#[derive(Debug, Deserialize)]
pub(super) struct StreamInfo {
    pub(super) config: serde_json::Map<String, Value>,
    pub(super) created: Timestamp,
    pub(super) state: StreamState,
}

/// Which messages a stream holds.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(super) struct StreamState {
    pub(super) messages: u64,
    pub(super) first_seq: u64,
    pub(super) last_seq: u64,
    #[serde(default)]
    pub(super) num_subjects: u64,
}

/// What churnd needs of a consumer's description.
#[derive(Debug, Deserialize)]
pub(super) struct ConsumerInfo {
    pub(super) delivered: Delivered,
    pub(super) num_pending: u64,
}

/// How far a consumer has come.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(super) struct Delivered {
    pub(super) consumer_seq: u64,
    pub(super) stream_seq: u64,
}

/// Describes a stream.
pub(super) async fn stream_info(context: &Context, stream: &str) -> Result<StreamInfo, StreamError> {
    request(context, &format!("STREAM.INFO.{stream}"), stream, &Value::Null).await
}

/// Describes a consumer.
pub(super) async fn consumer_info(context: &Context, stream: &str, name: &str) -> Result<ConsumerInfo, StreamError> {
    // The server takes an empty object for an empty request, but not `null`.
    request(context, &format!("CONSUMER.INFO.{stream}.{name}"), stream, &serde_json::json!({})).await
}

/// Sends one API request and reads its answer; `subject` is relative to the API's prefix.
pub(super) async fn request<T, V>(context: &Context, subject: &str, stream: &str, body: &T) -> Result<V, StreamError>
where
    T: Serialize + ?Sized,
    V: DeserializeOwned,
{
    match context.request(subject.to_owned(), body).await {
        Ok(Response::Ok(answer)) => Ok(answer),
        Ok(Response::Err { error }) => Err(refused(subject, stream, &error)),
        Err(error) => Err(unanswered(subject, error)),
    }
}

/// The server's refusal as an error of ours.
pub(super) fn refused(what: &str, stream: &str, error: &async_nats::jetstream::Error) -> StreamError {
    match error.error_code() {
        ErrorCode::STREAM_NOT_FOUND => StreamError::NoStream { stream: stream.to_owned() },
        _ if error.code() == 503 => StreamError::unavailable(what, error.clone()),
        code => StreamError::Refused { what: what.to_owned(), code: code.0, description: error.to_string() },
    }
}

fn unanswered(what: &str, error: RequestError) -> StreamError {
    match error.kind() {
        RequestErrorKind::Other if !is_disconnect(&error) => StreamError::unexpected(what, error),
        RequestErrorKind::InvalidSubject => StreamError::unexpected(what, error),
        RequestErrorKind::NoResponders | RequestErrorKind::TimedOut | RequestErrorKind::Other => {
            StreamError::unavailable(what, error)
        }
    }
}

/// The client's own channel broke, rather than the answer's form.
fn is_disconnect(error: &RequestError) -> bool {
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        if error.is::<serde_json::Error>() {
            return false;
        }
        cause = error.source();
    }
    true
}
