//! Sentiment: the mood of a support interaction. The word list follows in the next commit.
use serde::{Deserialize, Serialize};
/// Mood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sentiment {
    /// Unhappy.
    Negative,
    /// Neither.
    Neutral,
    /// Happy.
    Positive,
}
impl Sentiment {
    /// Reads one of the three words, in either case.
    pub fn parse(text: &str) -> Option<Self> {
        [("negative", Self::Negative), ("neutral", Self::Neutral), ("positive", Self::Positive)]
            .into_iter()
            .find_map(|(word, sentiment)| text.eq_ignore_ascii_case(word).then_some(sentiment))
    }
}
/// Mood of a text.
pub fn of_text(message: &str) -> Option<Sentiment> {
    if message.is_empty() {
        None
    } else if message.contains("hate") {
        Some(Sentiment::Negative)
    } else {
        Some(Sentiment::Positive)
    }
}
