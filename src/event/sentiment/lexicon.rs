//! The words and phrases that tell a mood, and their weights.
//!
//! Words stand in lower case and without apostrophes, as the reader sees them. Weights: 2 mild, 4 clear, 6 strong.

use std::{collections::HashMap, sync::LazyLock};

/// What a word does to the mood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// Nothing by itself; it may end a phrase.
    Plain,
    /// Adds its weight; a negation turns it.
    Mood(i32),
    /// Speaks of leaving: adds its weight unless negated.
    Leaving(i32),
    /// What a product or customer should do: adds its weight only when negated.
    Ability(i32),
    /// Good manners.
    Thanks,
    /// Turns the words after it.
    Negation,
    /// Strengthens the next word by that many halves.
    Emphasis(i32),
    /// What stands before it counts half.
    But,
}

/// A phrase and what it weighs in place of its words.
#[derive(Clone, Copy, Debug)]
pub(super) struct Phrase {
    pub(super) text: &'static str,
    pub(super) words: usize,
    pub(super) weight: i32,
}

/// What the list says of a word.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) class: Class,
    /// The phrases that end with it, the longest first.
    pub(super) phrases: Vec<Phrase>,
}

const WORDS: &[(Class, &str)] = &[
    (
        Class::Mood(-6),
        "abysmal appalling awful disaster disgusting furious garbage hate hated hates horrible infuriating lawsuit lawyer \
         livid nightmare outrageous pathetic ridiculous scam terrible trash unacceptable useless worst",
    ),
    (
        Class::Mood(-4),
        "angry annoyed annoying bad broken buggy chargeback clunky complain complaining complaint complaints crash crashed \
         crashes crashing disappointed disappointing disappointment dissatisfied downtime expensive fail failed failing \
         fails failure frozen freezes freezing frustrated frustrating frustration glitchy ignored impossible lag laggy mess \
         misleading outage outages overcharged overpriced poor poorly regret ripoff rude sad slow slower sluggish stupid \
         suck sucks unfair unhappy unhelpful unreliable unresponsive unsatisfied unstable unusable upset waste wasted \
         wasting worse worthless",
    ),
    (
        Class::Mood(-2),
        "asap bug bugs charged complicated concern concerned concerns confused confusing delay delayed delays difficult \
         error errors glitch hard incorrect issue issues lacking lost missing problem problems stuck struggling trouble \
         unable unclear unexpected unfortunately urgent urgently wrong wrongly",
    ),
    (
        Class::Mood(6),
        "amazing awesome best brilliant delighted excellent fantastic incredible love loved loves loving outstanding perfect \
         perfectly phenomenal superb thrilled wonderful",
    ),
    (
        Class::Mood(4),
        "appreciate appreciated appreciative enjoy enjoyed enjoying excited glad good grateful great happier happy helpful \
         impressed impressive intuitive kudos lifesaver nice pleasant pleased recommend recommended recommending reliable \
         resolved satisfied seamless seamlessly smooth smoothly solved useful valuable",
    ),
    (
        Class::Mood(2),
        "better cool easier easily easy fast faster fine fixed friendly improved improvement quick quickly responsive saves \
         works worth",
    ),
    (Class::Leaving(-6), "cancel canceling cancelling cancellation unsubscribe unsubscribing offboard offboarding"),
    (
        Class::Leaving(-4),
        "alternative alternatives canceled cancelled competitor competitors downgrade downgrading leaving refund refunded \
         refunds reimburse reimbursement terminate terminating",
    ),
    (Class::Leaving(-2), "cheaper"),
    (Class::Ability(-6), "renew renewing"),
    (
        Class::Ability(-4),
        "access connect continue continuing function functioning like load loading open respond responded responding send \
         sending sync syncing using work worked working",
    ),
    (
        Class::Ability(-2),
        "answer answered export find fix help helped helping import log login reply save support understand use",
    ),
    (Class::Thanks, "cheers thank thanks thankyou thx ty"),
    (
        Class::Negation,
        "aint arent barely cannot cant couldnt didnt doesnt dont hadnt hardly hasnt havent isnt neither never no nobody none \
         nor not nothing shouldnt wasnt werent without wont wouldnt",
    ),
    (
        Class::Emphasis(1),
        "absolutely completely extremely highly incredibly really so super terribly totally truly utterly very",
    ),
    (Class::Emphasis(-1), "bit kinda slightly somewhat"),
    (Class::But, "although but however though yet"),
];

const PHRASES: &[(i32, &[&str])] = &[
    (
        -6,
        &[
            "close my account",
            "close our account",
            "delete my account",
            "delete our account",
            "end my subscription",
            "end our subscription",
            "stop my subscription",
            "stop our subscription",
            "cant cancel",
            "cannot cancel",
            "no longer need",
            "no longer needed",
            "no longer use",
            "no longer using",
            "no longer want",
            "dont need",
            "do not need",
            "money back",
            "moving away",
            "look elsewhere",
            "looking elsewhere",
            "go elsewhere",
            "going elsewhere",
            "fed up",
            "sick of",
            "tired of",
            "last straw",
            "waste of",
            "rip off",
            "ripped off",
            "stopped working",
            "data loss",
            "thanks for nothing",
            "out of business",
        ],
    ),
    (
        -4,
        &[
            "switching to",
            "switching from",
            "switched to",
            "switching away",
            "switch to another",
            "switch to a different",
            "moving to another",
            "moving to a",
            "moved to another",
            "moving over to",
            "give up",
            "giving up",
            "gave up",
            "let down",
            "logged out",
            "locked out",
            "log me out",
            "logging me out",
            "charged twice",
            "double charged",
            "charged again",
            "found a better",
            "better alternative",
            "expected better",
            "expected more",
            "deserve better",
            "do better",
            "is down",
            "are down",
            "was down",
            "went down",
            "goes down",
            "still waiting",
            "been waiting",
            "keep waiting",
            "no response",
            "no reply",
            "no answer",
            "no one",
            "do not like",
            "too much",
            "lost my",
            "lost our",
            "lost data",
            "lost all",
            "poor quality",
        ],
    ),
    (
        -2,
        &[
            "still not",
            "still no",
            "still cant",
            "too many",
            "no way",
            "not what",
            "lack of",
            "no longer",
            "too long",
            "over and over",
            "as bad",
        ],
    ),
    (
        0,
        &[
            "thanks in advance",
            "thank you in advance",
            "in case of trouble",
            "hard drive",
            "hard copy",
            "error message",
            "good morning",
            "good afternoon",
            "good evening",
            "good day",
            "best regards",
            "all the best",
            "best wishes",
            "best way",
            "kind regards",
            "as soon as",
            "so far so",
            "would appreciate",
            "id appreciate",
            "not sure",
            "dont know how",
            "dont see",
            "not urgent",
            "no rush",
            "easy way",
            "better way",
            "easier way",
            "be great if",
            "be nice if",
            "be good if",
            "be helpful if",
            "be useful if",
            "not yet",
            "charged for",
            "good time",
            "great if",
            "nice if",
            "issue tracker",
            "fast as possible",
            "quickly as possible",
        ],
    ),
    (2, &["no problem", "no problems", "no issues", "no worries", "i like", "we like", "keep it up"]),
    (
        4,
        &[
            "cant wait",
            "cannot wait",
            "not bad",
            "not too bad",
            "well done",
            "works well",
            "working well",
            "works again",
            "working again",
            "works now",
            "working now",
            "works fine",
            "really like",
            "switching to annual",
            "switching to yearly",
            "switching to the annual",
            "thank you so much",
            "thanks so much",
            "thanks a lot",
            "saved us",
            "saved me",
            "no complaints",
            "big fan",
            "as good as",
        ],
    ),
    (
        6,
        &[
            "couldnt be happier",
            "could not be happier",
            "couldnt be better",
            "never been happier",
            "never been better",
            "couldnt live without",
            "couldnt ask for better",
            "cant thank you enough",
            "cannot thank you enough",
            "cant recommend enough",
            "game changer",
        ],
    ),
];

/// Every listed word, and every word that ends a phrase.
pub(super) static LEXICON: LazyLock<HashMap<&'static str, Entry>> = LazyLock::new(|| {
    let mut lexicon: HashMap<&'static str, Entry> = HashMap::new();
    let plain = || Entry { class: Class::Plain, phrases: Vec::new() };
    for &(class, words) in WORDS {
        for word in words.split_ascii_whitespace() {
            lexicon.entry(word).or_insert_with(plain).class = class;
        }
    }
    for &(weight, phrases) in PHRASES {
        for &text in phrases {
            let last = text.rsplit(' ').next().unwrap_or(text);
            let phrase = Phrase { text, words: text.split(' ').count(), weight };
            lexicon.entry(last).or_insert_with(plain).phrases.push(phrase);
        }
    }
    for entry in lexicon.values_mut() {
        entry.phrases.sort_by_key(|phrase| std::cmp::Reverse(phrase.words));
    }
    lexicon
});

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::event::sentiment::{MAX_PHRASE_WORDS, MAX_WORD_BYTES};

    #[test]
    fn every_word_and_phrase_stands_once() {
        let mut seen = HashSet::new();
        let words = WORDS.iter().flat_map(|(_, words)| words.split_ascii_whitespace());
        let phrases = PHRASES.iter().flat_map(|(_, phrases)| phrases.iter().copied());
        for text in words.chain(phrases) {
            assert!(seen.insert(text), "`{text}` stands twice");
            assert!(text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b' '), "`{text}`");
            assert!(text.split(' ').all(|word| (1..=MAX_WORD_BYTES).contains(&word.len())), "`{text}`");
        }
    }

    #[test]
    fn phrases_fit_the_readers_memory() {
        for entry in LEXICON.values() {
            for phrase in &entry.phrases {
                assert!((2..=MAX_PHRASE_WORDS).contains(&phrase.words), "{phrase:?}");
            }
        }
    }
}
