//! Messages and the mood they are in.

use proptest::prelude::*;

use super::*;

#[track_caller]
fn check(sentiment: Sentiment, messages: &[&str]) {
    let wrong: Vec<_> = messages.iter().filter(|message| of_text(message) != Some(sentiment)).collect();
    assert!(wrong.is_empty(), "not {}: {wrong:#?}", sentiment.as_str());
}

#[test]
fn leaving_is_negative() {
    check(
        Sentiment::Negative,
        &[
            "I would like to cancel my account",
            "Please cancel our subscription at the end of the month. Thanks",
            "How do I cancel?",
            "Where can I unsubscribe?",
            "We are switching to a competitor next week.",
            "We've decided on switching to HubSpot",
            "I want a refund",
            "Please refund the last invoice, thank you",
            "I'd like my money back.",
            "We no longer need this tool",
            "We don't need it any more",
            "Please close my account and delete all data",
            "We will not renew in March",
            "We won't be renewing our contract",
            "I am looking for alternatives",
            "We found a cheaper product",
            "Thanks for your help so far, but we are leaving.",
            "I cannot cancel my plan, the button does nothing",
            "How can I downgrade to the free plan?",
            "Your competitors offer this for less",
        ],
    );
}

#[test]
fn complaints_are_negative() {
    check(
        Sentiment::Negative,
        &[
            "It's not working",
            "The export doesn't work",
            "the export doesn’t work",
            "THE EXPORT DOESNT WORK!!!",
            "Nothing works since the update",
            "Login is broken again",
            "The app keeps crashing on start",
            "I am not happy with the support",
            "Not very helpful",
            "This is not at all helpful",
            "I'm really disappointed",
            "This is the worst tool I have used",
            "Way too expensive for what it does",
            "The dashboard is terribly slow",
            "I like the idea but it is too slow to use",
            "Still waiting for an answer",
            "I've had no response for two weeks",
            "Your site is down",
            "I can't log in",
            "I can't access my account",
            "We were charged twice this month",
            "Fed up with this",
            "What a waste of time",
            "Thanks for nothing",
            "The reports are wrong and nobody answers",
            "Unfortunately the problem is not resolved",
            "it never loads, useless",
            "I don't like the new design",
            "It stopped working yesterday.",
            "Why was my payment declined? This is ridiculous.",
            "I hate this",
        ],
    );
}

#[test]
fn praise_is_positive() {
    check(
        Sentiment::Positive,
        &[
            "Thanks!",
            "thank you",
            "Thank you so much, that fixed it",
            "I love it",
            "We LOVE the new dashboard!",
            "Great support, as always",
            "Works great",
            "It works now, thanks",
            "Not bad at all",
            "No complaints so far",
            "The problem is solved, thank you!",
            "You resolved my issue quickly, great job",
            "Absolutely fantastic product",
            "Couldn't be happier",
            "I can't wait for the next release",
            "Very happy with the service",
            "It was slow, but now it is perfect",
            "Easy to use and reliable",
            "The team was friendly and helpful.",
            "We highly recommend it",
            "I really like the reports",
            "Upgrade went smoothly, no issues",
            "I can't thank you enough",
        ],
    );
}

#[test]
fn questions_and_statements_are_neutral() {
    check(
        Sentiment::Neutral,
        &[
            "How do I add a user?",
            "Could you send me the invoice for May? Thanks",
            "Can we have a call next week? Thank you in advance",
            "Where is the settings page?",
            "We have 20 new users",
            "Please change the billing address to the one below",
            "I would like to add two seats",
            "Good morning, is there an API for exports?",
            "Looks like the release is next week",
            "What is the best way to import contacts?",
            "There is an issue with one row. Thanks!",
            "We don't want to cancel",
            "Ich möchte eine Rechnung",
            "請問如何登入",
            "ticket 12345",
        ],
    );
}

#[test]
fn no_words_no_mood() {
    for message in ["", "   ", "!!!", "12345", "...\n", "👍", "'", "\u{2019}"] {
        assert_eq!(of_text(message), None, "{message:?}");
    }
}

#[test]
fn negation_ends_with_its_clause() {
    check(Sentiment::Positive, &["No, it is great", "I did not know. Great tool"]);
    check(Sentiment::Negative, &["It is not great"]);
}

#[test]
fn sentiments_are_ordered_and_spelled() {
    assert!(Sentiment::Negative < Sentiment::Neutral && Sentiment::Neutral < Sentiment::Positive);
    for sentiment in [Sentiment::Negative, Sentiment::Neutral, Sentiment::Positive] {
        assert_eq!(Sentiment::parse(&sentiment.as_str().to_uppercase()), Some(sentiment));
        assert_eq!(serde_json::to_value(sentiment).unwrap(), sentiment.as_str());
    }
    assert_eq!(Sentiment::parse("angry"), None);
}

#[test]
fn long_messages_are_read_to_the_end() {
    let message = format!("{} I hate it", "word ".repeat(6_000));
    assert_eq!(of_text(&message), Some(Sentiment::Negative));
    assert_eq!(of_text(&"hate ".repeat(6_000)), Some(Sentiment::Negative));
    assert_eq!(of_text(&"x".repeat(30_000)), Some(Sentiment::Neutral));
}

proptest! {
    #[test]
    fn any_text_has_a_mood_or_none(message in ".{0,200}") {
        let has_words = message.chars().any(char::is_alphabetic);
        prop_assert_eq!(of_text(&message).is_some(), has_words);
    }

    #[test]
    fn any_listed_words_have_a_mood(words in proptest::collection::vec(proptest::sample::select(
        LEXICON.keys().copied().collect::<Vec<_>>()), 1..40))
    {
        prop_assert!(of_text(&words.join(" ")).is_some());
        prop_assert_eq!(of_text(&words.join(" ")), of_text(&words.join("  ").to_uppercase()));
    }
}
