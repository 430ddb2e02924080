//! Bodies that decode, bodies that are rejected with a name, and that both encodings agree.

use proptest::prelude::*;

use super::*;
use crate::event::{fact::CardFact, ids::AccountId};

/// Decodes, and prints what came of it in one line.
fn outcome(payload: &[u8], encoding: Encoding) -> String {
    let mut scratch = Vec::new();
    match decode(payload, encoding, &mut scratch) {
        Ok(event) => print(&event),
        Err(reject) => reject.code().to_owned(),
    }
}

fn print(event: &Event<'_>) -> String {
    let mut line = event.name.to_string();
    for (label, value) in [
        ("id", event.id.as_deref()),
        ("customer", event.customer_id.as_deref()),
        ("user", event.user_id.as_deref()),
        ("properties", event.properties_json()),
    ] {
        if let Some(value) = value {
            line += &format!(" {label}={value}");
        }
    }
    if let Some(timestamp) = event.timestamp {
        line += &format!(" at={timestamp}");
    }
    line
}

#[track_caller]
fn check(json: &str, expected: &str) {
    assert_eq!(outcome(json.as_bytes(), Encoding::Json), expected, "{json}");
}

#[track_caller]
fn with_event<T>(json: &str, look: impl FnOnce(&Event<'_>) -> T) -> T {
    let mut scratch = Vec::new();
    look(&decode(json.as_bytes(), Encoding::Json, &mut scratch).unwrap())
}

#[test]
fn events_are_decoded() {
    check(r#"{"event":"login"}"#, "login");
    check(
        r#"{"event":"login","id":"1","customerId":"c","timestamp":"2026-03-01T12:00:00.250+01:00","userId":"u",
           "properties": {"a": [1]} }"#,
        r#"login id=1 customer=c user=u properties={"a": [1]} at=2026-03-01T11:00:00.25Z"#,
    );
    check(r#" { "event" : "l\u00f6g\n\ud83d\ude00" } "#, "lög\n😀");
    check(r#"{"ev\u0065nt":"login"}"#, "login");
    check(r#"{"event":"login","unknown":{"event":"other"},"more":[1,2,{"a":null}],"more":1}"#, "login");
}

#[test]
fn null_and_an_empty_id_are_absent() {
    check(
        r#"{"event":"a","id":null,"customerId":null,"timestamp":null,"userId":null,"properties":null,"facts":null}"#,
        "a",
    );
    check(r#"{"event":"a","id":""}"#, "a");
    assert!(!with_event(r#"{"event":"a","facts":null}"#, |event| event.has_facts()));
}

#[test]
fn lengths_are_counted_in_characters() {
    let hundred = "é".repeat(100);
    check(&format!(r#"{{"event":"{hundred}"}}"#), &hundred);
    check(&format!(r#"{{"event":"{hundred}e"}}"#), "event_name_length");
    check(r#"{"event":""}"#, "event_name_length");
    check(&format!(r#"{{"event":"a","id":"{hundred}"}}"#), &format!("a id={hundred}"));
    check(&format!(r#"{{"event":"a","id":"{hundred}e"}}"#), "id_length");
    check(&format!(r#"{{"event":"a","customerId":"{}"}}"#, "c".repeat(256)), "invalid_customer_id");
}

#[test]
fn faults_have_names() {
    for (json, code) in [
        ("", "not_json"),
        ("  ", "not_json"),
        ("{", "not_json"),
        ("\u{feff}{}", "not_json"),
        (r#"{"event":"a"} x"#, "not_json"),
        (r#"{"event":"a"}{}"#, "not_json"),
        (r#"{"event":"a",}"#, "not_json"),
        (r#"{"event":'a'}"#, "not_json"),
        (r#"{"event":"a","properties":{]}"#, "not_json"),
        (r#"{"event":"a","properties":NaN}"#, "not_json"),
        ("{\"event\":\"a\u{1}\"}", "not_json"),
        ("{\"event\":\"a\",\"properties\":{\"a\":\"\0\"}}", "not_json"),
        (r#"{"event":"a","x":"\x"}"#, "not_json"),
        (r#"{"event":"a","x":"\u12"}"#, "not_json"),
        ("[]", "not_an_object"),
        ("\"login\"", "not_an_object"),
        ("1", "not_an_object"),
        ("null", "not_an_object"),
        ("{}", "missing_event"),
        (r#"{"event":null}"#, "missing_event"),
        (r#"{"event":1}"#, "not_a_string"),
        (r#"{"event":-1.5}"#, "not_a_string"),
        (r#"{"event":{"a":[]}}"#, "not_a_string"),
        (r#"{"event":[[1]]}"#, "not_a_string"),
        (r#"{"event":"a","id":7}"#, "not_a_string"),
        (r#"{"event":"a","userId":true}"#, "not_a_string"),
        (r#"{"event":"a","customerId":7}"#, "invalid_customer_id"),
        (r#"{"event":"a","customerId":""}"#, "invalid_customer_id"),
        (r#"{"event":"a","timestamp":1}"#, "invalid_timestamp"),
        (r#"{"event":"a","timestamp":""}"#, "invalid_timestamp"),
        (r#"{"event":"a","timestamp":"2026-03-01"}"#, "invalid_timestamp"),
        (r#"{"event":"a","properties":[]}"#, "properties_not_an_object"),
        (r#"{"event":"a","properties":"x"}"#, "properties_not_an_object"),
        (r#"{"event":"a","event":"b"}"#, "duplicate_field"),
        (r#"{"event":"a","id":"1","i\u0064":"2"}"#, "duplicate_field"),
        (r#"{"event":"a","properties":null,"properties":{}}"#, "duplicate_field"),
        (r#"{"event":"a\u0000"}"#, "nul_character"),
        (r#"{"event":"a","properties":{"\u0000":1}}"#, "nul_character"),
        (r#"{"event":"a","x":"\ud800"}"#, "lone_surrogate"),
        (r#"{"event":"a","x":"\ud800\u0041"}"#, "lone_surrogate"),
        (r#"{"event":"a","x":"\uDC00"}"#, "lone_surrogate"),
        (r#"{"event":"a","x":"\\\ud800x"}"#, "lone_surrogate"),
    ] {
        check(json, code);
    }
    assert_eq!(outcome(b"{\"event\":\"a\xff\"}", Encoding::Json), "not_utf8");
    assert_eq!(outcome(b"{\"event\":\"a\",\"x\":\"\xed\xa0\x80\"}", Encoding::Json), "not_utf8");
}

#[test]
fn an_escaped_backslash_begins_no_escape() {
    check(r#"{"event":"\\u0000\\ud800"}"#, r"\u0000\ud800");
}

#[test]
fn oversize_is_refused() {
    let padded = |bytes: usize| format!("{{\"event\":\"a\"}}{}", " ".repeat(bytes - 13));
    check(&padded(MAX_EVENT_BYTES), "a");
    check(&padded(MAX_EVENT_BYTES + 1), "oversize");
}

#[test]
fn depth_is_bounded_and_bombs_do_no_harm() {
    let nested =
        |levels: usize| format!(r#"{{"event":"a","properties":{{"p":{}{}}}}}"#, "[".repeat(levels), "]".repeat(levels));
    assert!(outcome(nested(MAX_DEPTH - 2).as_bytes(), Encoding::Json).starts_with("a "));
    check(&nested(MAX_DEPTH - 1), "too_deep");
    check(&nested(15_000), "too_deep");
    check(&format!(r#"{{"event":"a","x":{}"#, "[".repeat(30_000)), "too_deep");
    check(&format!(r#"{{"event":"a","x":{}"#, "{\"a\":".repeat(6_000)), "too_deep");
    // Wide is not deep, and brackets in texts are none.
    let wide = format!(r#"{{"event":"a","x":[{}1],"y":"{}\""}}"#, "[],".repeat(5_000), "[".repeat(5_000));
    check(&wide, "a");
}

#[test]
fn skipping_needs_no_stack_however_deep() {
    // The check of the depth stands before it, but nothing may rely on that alone.
    let bomb =
        format!(r#"{{"event":"a","x":{0}{1},"properties":{{"a":{0}{1}}}}}"#, "[".repeat(100_000), "]".repeat(100_000));
    let fields = Fields::read(&bomb, &mut None).unwrap();
    assert!(fields.properties.is_some());
}

#[test]
fn common_events_are_borrowed() {
    let json = r#"{"event":"login","id":"1","customerId":"c","userId":"u"}"#;
    with_event(json, |event| {
        assert!(matches!(event.name, Cow::Borrowed(_)));
        for text in [&event.id, &event.customer_id, &event.user_id] {
            assert!(matches!(text, Some(Cow::Borrowed(_))));
        }
    });
}

#[test]
fn messagepack_gives_the_same_event() {
    let value = serde_json::json!({
        "event": "login", "id": "1", "timestamp": "2026-03-01T12:00:00Z", "properties": {"a": [1, null, "é"]}, "x": 1.5,
    });
    let (json, packed) = (serde_json::to_vec(&value).unwrap(), rmp_serde::to_vec_named(&value).unwrap());
    assert_eq!(outcome(&packed, Encoding::MessagePack), outcome(&json, Encoding::Json));
    assert_eq!(outcome(&json, Encoding::MessagePack), "not_message_pack");
    assert_eq!(outcome(&[0x93, 1, 2, 3], Encoding::MessagePack), "not_an_object");
    assert_eq!(outcome(&[0x80], Encoding::MessagePack), "missing_event");
    assert_eq!(outcome(b"\x81\xa5event\xa2a\0", Encoding::MessagePack), "nul_character");
    assert_eq!(outcome(b"\x82\xa5event\xa1a\xa5event\xa1b", Encoding::MessagePack), "duplicate_field");
    let deep = [b"\x82\xa5event\xa1a\xa1x".as_slice(), &[0x91; 30_000]].concat();
    assert_eq!(outcome(&deep, Encoding::MessagePack), "too_deep");
    assert_eq!(outcome(&[0xc0; MAX_EVENT_BYTES + 1], Encoding::MessagePack), "oversize");
}

#[test]
fn subject_and_body_must_agree() {
    let customer = |json: &str, token: &str| with_event(json, |event| check_customer(event, token));
    let id = |text: &str| Ok(CustomerId::parse(text).unwrap());
    assert_eq!(customer(r#"{"event":"a"}"#, "a=40b"), id("a@b"));
    assert_eq!(customer(r#"{"event":"a","customerId":"a@b"}"#, "a=40b"), id("a@b"));
    assert_eq!(customer(r#"{"event":"a","customerId":"a=40b"}"#, "a=40b"), Err(Reject::CustomerMismatch));
    assert_eq!(customer(r#"{"event":"a"}"#, "=2e").map_err(|reject| reject.code()), Err("invalid_token"));
    let long = "é".repeat(100);
    let hashed = subject::encode(&CustomerId::parse(&long).unwrap());
    let body = format!(r#"{{"event":"a","customerId":"{long}"}}"#);
    assert_eq!(customer(&body, hashed.as_str()), id(&long));
    assert_eq!(customer(r#"{"event":"a"}"#, hashed.as_str()), Err(Reject::HashedWithoutId));
    assert_eq!(customer(r#"{"event":"a","customerId":"b"}"#, hashed.as_str()), Err(Reject::CustomerMismatch));
}

#[test]
fn identity_is_the_own_id_or_the_messages() {
    let account = AccountId::parse("acme").unwrap();
    let identity = |json: &str, message_id: Option<&str>| {
        with_event(json, |event| event.identity(account.as_str(), message_id).map(str::to_owned))
    };
    assert_eq!(identity(r#"{"event":"a","id":"1"}"#, Some("acme:2")).as_deref(), Some("1"));
    assert_eq!(identity(r#"{"event":"a"}"#, Some("acme:2")).as_deref(), Some("2"));
    assert_eq!(identity(r#"{"event":"a"}"#, Some("other:2")), None);
    assert_eq!(identity(r#"{"event":"a"}"#, Some("acme:")), None);
    assert_eq!(identity(r#"{"event":"a"}"#, Some("acme")), None);
    assert_eq!(identity(r#"{"event":"a"}"#, None), None);
}

#[test]
fn properties_are_read_on_demand() {
    let json = r#"{"event":"a","properties":{"n":1,"x":{"s":"deep"},"s":"t\u00e9xt","k\"":"q","s2":null}}"#;
    with_event(json, |event| {
        assert_eq!(event.property_str("s").as_deref(), Some("téxt"));
        assert_eq!(event.property_str("k\"").as_deref(), Some("q"));
        for absent in ["n", "x", "s2", "other"] {
            assert_eq!(event.property_str(absent), None);
        }
    });
    assert_eq!(with_event(r#"{"event":"a"}"#, |event| event.property_str("s")), None);
}

#[test]
fn sentiment_is_what_the_sender_says_or_the_message_shows() {
    let sentiment = |properties: &str| {
        with_event(&format!(r#"{{"event":"support_ticket","properties":{properties}}}"#), |event| event.sentiment())
    };
    assert_eq!(sentiment(r#"{"sentiment":"negative"}"#), Some(Sentiment::Negative));
    assert_eq!(sentiment(r#"{"sentiment":"Positive","message":"I hate this"}"#), Some(Sentiment::Positive));
    assert_eq!(sentiment(r#"{"sentiment":"NEUTRAL"}"#), Some(Sentiment::Neutral));
    assert_eq!(sentiment(r#"{"sentiment":"angry","message":"I hate this"}"#), Some(Sentiment::Negative));
    assert_eq!(sentiment(r#"{"message":"thanks, this is great"}"#), Some(Sentiment::Positive));
    assert_eq!(sentiment(r#"{"message":""}"#), None);
    assert_eq!(sentiment(r#"{"message":7}"#), None);
    assert_eq!(sentiment("{}"), None);
}

#[test]
fn stripe_customers_are_checked() {
    let stripe = |id: &str| {
        with_event(&format!(r#"{{"event":"identify","properties":{{"stripeCustomerId":"{id}"}}}}"#), |event| {
            event.stripe_customer()
        })
    };
    assert_eq!(stripe("cus_QXg1o8vcGmoR32").as_deref(), Some("cus_QXg1o8vcGmoR32"));
    for other in ["", "cus_", "sub_1", "cus_a b", "xcus_1", &format!("cus_{}", "a".repeat(252))] {
        assert_eq!(stripe(other), None, "{other}");
    }
}

#[test]
fn unreadable_facts_are_left_out() {
    let card = StripeFact::Card(CardFact {
        id: "pm_1".to_owned(),
        created: Timestamp::from_seconds(1_772_366_400),
        attached: true,
        expires: None,
    });
    let written = serde_json::to_string(&card).unwrap();
    let json = format!(r#"{{"event":"payment_x","facts":[{written},{{"kind":"later"}},7]}}"#);
    assert_eq!(with_event(&json, |event| event.facts()), vec![card]);
    for facts in ["{}", "7", "\"x\"", "[]"] {
        let json = format!(r#"{{"event":"a","facts":{facts}}}"#);
        assert_eq!(with_event(&json, |event| event.facts()), Vec::new());
    }
}

#[test]
fn reasons_never_quote_the_payload() {
    for json in [
        r#"{"event":["secret"]}"#,
        r#"{"event":"a","timestamp":"secret"}"#,
        r#"{"event":"a","secret":secret}"#,
        r#"{"event":"a","id":{"secret":1}}"#,
        r#"["secret"]"#,
        r#""secret""#,
        r#"{"event":"a","properties":"secret"}"#,
    ] {
        let mut scratch = Vec::new();
        let reject = decode(json.as_bytes(), Encoding::Json, &mut scratch).unwrap_err();
        assert!(!reject.to_string().contains("secret"), "{reject}");
        assert!(!reject.to_string().ends_with('.'), "{reject}");
    }
}

/// Fragments that are likely to make events, and to break them.
fn near_json() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        Just("{"),
        Just("}"),
        Just("["),
        Just("]"),
        Just(","),
        Just(":"),
        Just("\"event\""),
        Just("\"id\""),
        Just("\"a\""),
        Just("\"timestamp\""),
        Just("\"properties\""),
        Just("\"facts\""),
        Just("\"customerId\""),
        Just("null"),
        Just("1e9"),
        Just("\"\\u0000\""),
        Just("\"\\ud800\""),
        Just("\"\\ud83d\\ude00\""),
        Just("\"2026-03-01T12:00:00Z\""),
        Just("\\"),
        Just("\""),
        Just(" "),
        Just("{\"event\":\"a\"}"),
        Just("{\"event\":\"a\",\"properties\":{"),
    ];
    proptest::collection::vec(part, 0..24).prop_map(|parts| parts.concat())
}

/// Decodes and asks the event everything.
fn exercise(payload: &[u8], encoding: Encoding) {
    let mut scratch = Vec::new();
    match decode(payload, encoding, &mut scratch) {
        Ok(event) => {
            assert!((1..=100).contains(&event.name.chars().count()));
            assert!(event.id.as_ref().is_none_or(|id| (1..=100).contains(&id.chars().count())));
            let _: (Option<Sentiment>, Vec<StripeFact>) = (event.sentiment(), event.facts());
            let _: (Option<String>, Option<String>) = (event.stripe_customer(), event.property_str("a"));
            if let Some(properties) = event.properties_json() {
                assert!(serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(properties).is_ok());
            }
        }
        Err(reject) => assert!(!reject.to_string().is_empty()),
    }
}

proptest! {
    #[test]
    fn any_bytes_give_an_event_or_a_reject(payload in proptest::collection::vec(any::<u8>(), 0..300)) {
        exercise(&payload, Encoding::Json);
        exercise(&payload, Encoding::MessagePack);
    }

    #[test]
    fn any_near_json_gives_an_event_or_a_reject(json in near_json()) {
        exercise(json.as_bytes(), Encoding::Json);
    }

    #[test]
    fn damaged_events_give_an_event_or_a_reject(position in 0_usize..120, byte in any::<u8>()) {
        let mut json = br#"{"event":"login","id":"1","timestamp":"2026-03-01T12:00:00Z","properties":{"message":"x\u00e9"},"facts":[]}"#.to_vec();
        let position = position % json.len();
        json[position] = byte;
        exercise(&json, Encoding::Json);
        let mut packed = rmp_serde::to_vec_named(&serde_json::json!({"event": "login", "properties": {"a": [1.5, "b"]}})).unwrap();
        let position = position % packed.len();
        packed[position] = byte;
        exercise(&packed, Encoding::MessagePack);
    }

    #[test]
    fn accepted_names_survive(name in "\\PC{1,100}") {
        let json = serde_json::to_string(&serde_json::json!({ "event": name })).unwrap();
        with_event(&json, |event| assert_eq!(event.name, name));
    }
}
