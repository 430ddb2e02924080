//! Sentiment: the mood of a support interaction, worked out from its words.
//!
//! A list of some 500 English words and phrases of support tickets, with weights, above all what customers write before
//! they leave ("cancel my account", "switching to", "refund"). Negation turns what follows ("not happy", "not bad"),
//! "very" strengthens it, and what stands before a "but" counts half. Deliberately simple: the same text always has the
//! same mood, and every verdict can be explained by the list. Text without a known word, in another language for
//! instance, is neutral.
//!
//! Invariant: the text is read once and nothing of it is kept.

use serde::{Deserialize, Serialize};

use lexicon::{Class, LEXICON};

mod lexicon;

/// The mood of a support interaction; negative is the lowest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sentiment {
    /// Unhappy, or about to leave.
    Negative,
    /// Neither.
    Neutral,
    /// Happy.
    Positive,
}

impl Sentiment {
    /// Reads one of the three words, in either case.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Negative, Self::Neutral, Self::Positive]
            .into_iter()
            .find(|sentiment| text.eq_ignore_ascii_case(sentiment.as_str()))
    }

    /// The sentiment as it stands in properties and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Negative => "negative",
            Self::Neutral => "neutral",
            Self::Positive => "positive",
        }
    }
}

/// The mood of a message; `None` if it has no words.
pub fn of_text(message: &str) -> Option<Sentiment> {
    let mut reading = Reading::default();
    for character in message.chars() {
        match character {
            // "don't", "don’t" and "dont" are one word.
            '\'' | '\u{2019}' => {}
            _ if character.is_alphanumeric() => reading.take_character(character),
            _ => {
                reading.end_word();
                match character {
                    '.' | ',' | ';' | ':' | '!' | '\n' | '(' | ')' => reading.end_clause(),
                    '?' => {
                        reading.asks = true;
                        reading.end_clause();
                    }
                    _ => {}
                }
            }
        }
    }
    reading.end_word();
    reading.verdict()
}

/// How many words a negation reaches.
const NEGATION_REACH: u8 = 3;
/// What thanks weigh: they outweigh one mild complaint, and count once.
const POLITENESS: i32 = 2;
/// Words that long stand on no list; the rest of one is skipped.
const MAX_WORD_BYTES: usize = 32;
/// The most words of a phrase, and so how far back one can reach.
const MAX_PHRASE_WORDS: usize = 4;

/// What one word added.
#[derive(Clone, Copy, Default)]
struct Contribution {
    mood: i32,
    polite: bool,
    /// A negation reached it.
    negated: bool,
}

#[derive(Default)]
struct Reading {
    /// The clause so far in lower case, one space between words; the last word may be unfinished.
    clause: String,
    /// Where the last word begins in it.
    word_start: usize,
    /// What the clause's last words added, the newest last.
    recent: [Contribution; MAX_PHRASE_WORDS],
    /// How many more words the last negation reaches.
    negation: u8,
    /// Half-steps by which the last word strengthens or weakens the next.
    emphasis: i32,
    mood: i32,
    thanks: i32,
    has_words: bool,
    asks: bool,
}

impl Reading {
    fn take_character(&mut self, character: char) {
        self.has_words |= character.is_alphabetic();
        if self.clause.len() - self.word_start < MAX_WORD_BYTES {
            self.clause.extend(character.to_lowercase());
        }
    }

    fn end_word(&mut self) {
        if self.clause.len() == self.word_start {
            return;
        }
        let negated = self.negation > 0;
        self.negation = self.negation.saturating_sub(1);
        let entry = LEXICON.get(&self.clause[self.word_start..]);
        let class = entry.map_or(Class::Plain, |entry| entry.class);
        let emphasis = std::mem::take(&mut self.emphasis);
        let contribution = self.contribution(class, negated, emphasis);
        self.recent.rotate_left(1);
        self.recent[MAX_PHRASE_WORDS - 1] = contribution;
        self.count(contribution, 1);
        let phrase =
            entry.and_then(|entry| entry.phrases.iter().find(|phrase| ends_with_words(&self.clause, phrase.text)));
        if let Some(phrase) = phrase {
            self.replace_words(phrase.words, phrase.weight);
        }
        self.clause.push(' ');
        self.word_start = self.clause.len();
    }

    fn contribution(&mut self, class: Class, negated: bool, emphasis: i32) -> Contribution {
        let mut contribution = Contribution { negated, ..Contribution::default() };
        match class {
            Class::Plain => {}
            Class::Mood(weight) => contribution.mood = emphasized(turned(weight, negated), emphasis),
            Class::Leaving(weight) if !negated => contribution.mood = weight,
            Class::Ability(weight) if negated => contribution.mood = weight,
            Class::Leaving(_) | Class::Ability(_) => {}
            Class::Thanks => contribution.polite = true,
            Class::Negation => self.negation = NEGATION_REACH,
            Class::Emphasis(steps) => self.emphasis = steps,
            Class::But => {
                self.mood /= 2;
                self.thanks /= 2;
                self.recent = Default::default();
                self.negation = 0;
            }
        }
        contribution
    }

    /// A phrase says more than its words: it counts in their place.
    fn replace_words(&mut self, words: usize, weight: i32) {
        let first = MAX_PHRASE_WORDS - words;
        let negated = self.recent[first].negated;
        for at in first..MAX_PHRASE_WORDS {
            let contribution = std::mem::take(&mut self.recent[at]);
            self.count(contribution, -1);
        }
        let contribution = Contribution { mood: if negated { 0 } else { weight }, polite: false, negated };
        self.recent[MAX_PHRASE_WORDS - 1] = contribution;
        self.count(contribution, 1);
    }

    fn count(&mut self, contribution: Contribution, sign: i32) {
        self.mood = self.mood.saturating_add(sign * contribution.mood);
        self.thanks += sign * POLITENESS * i32::from(contribution.polite);
    }

    fn end_clause(&mut self) {
        self.clause.clear();
        self.word_start = 0;
        self.recent = Default::default();
        self.negation = 0;
        self.emphasis = 0;
    }

    fn verdict(&self) -> Option<Sentiment> {
        if !self.has_words {
            return None;
        }
        // Thanks after a question are manners, not mood.
        let thanks = if self.asks { 0 } else { self.thanks.clamp(0, POLITENESS) };
        Some(match self.mood.saturating_add(thanks) {
            ..=-1 => Sentiment::Negative,
            0 => Sentiment::Neutral,
            1.. => Sentiment::Positive,
        })
    }
}

/// Negated praise is a complaint of half its weight; a negated complaint is faint praise.
fn turned(weight: i32, negated: bool) -> i32 {
    match (negated, weight > 0) {
        (false, _) => weight,
        (true, true) => -(weight / 2 + 1),
        (true, false) => (-weight / 4).max(1),
    }
}

fn emphasized(weight: i32, half_steps: i32) -> i32 {
    weight + weight * half_steps / 2
}

fn ends_with_words(clause: &str, phrase: &str) -> bool {
    clause.strip_suffix(phrase).is_some_and(|before| before.is_empty() || before.ends_with(' '))
}

#[cfg(test)]
mod tests;
