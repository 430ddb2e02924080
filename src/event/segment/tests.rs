//! What each SDK's message becomes, and that nothing breaks the mapping.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::event::decode::{Encoding, decode};

/// 2026-03-01T12:00:00Z.
const RECEIVED: Timestamp = Timestamp::from_seconds(1_772_366_400);

fn pages() -> Vec<String> {
    ["/billing", "/account/billing/", "Plans"].map(str::to_owned).to_vec()
}

fn is_contact(name: &str) -> bool {
    matches!(name, "email" | "name" | "companyName")
}

/// What the only message of a body becomes.
fn mapped(body: &Value, form: Form, call: Option<Call>, customer: CustomerOf) -> Result<Value, Unmapped> {
    let text = body.to_string();
    let request = Request::read(text.as_bytes(), form)?;
    let [message] = request.messages.as_slice() else { panic!("one message: {body}") };
    let pages = pages();
    let mapping = Mapping { customer, billing_pages: &pages, drops_trait: is_contact, received_at: RECEIVED };
    map(message, call, &request, &mapping).map(|body| {
        decode(&body, Encoding::Json, &mut Vec::new()).unwrap_or_else(|error| panic!("{error}"));
        serde_json::from_slice(&body).unwrap()
    })
}

#[track_caller]
fn check(message: Value, expected: Value) {
    assert_eq!(mapped(&message, Form::Single, None, CustomerOf::User), Ok(expected), "{message}");
}

#[track_caller]
fn check_group(message: Value, expected: Value) {
    assert_eq!(mapped(&message, Form::Single, None, CustomerOf::Group), Ok(expected), "{message}");
}

#[track_caller]
fn check_refused(message: Value, code: &str) {
    for customer in [CustomerOf::User, CustomerOf::Group] {
        let outcome = mapped(&message, Form::Single, None, customer);
        assert_eq!(outcome.map_err(|error| error.code()), Err(code), "{message}");
    }
}

#[test]
fn track_is_the_event_of_its_name() {
    check(
        json!({"type": "track", "messageId": "node-next-1772366399000-4f1c", "userId": "u-1", "anonymousId": null,
            "event": "login", "properties": {"plan": "team", "price": 19.90}, "timestamp": "2026-03-01T11:59:58.123Z",
            "context": {"library": {"name": "@segment/analytics-node", "version": "3.1.0"}, "ip": "192.0.2.1"},
            "integrations": {}, "_metadata": {"nodeVersion": "22.0.0"}}),
        json!({"event": "login", "id": "node-next-1772366399000-4f1c", "customerId": "u-1",
            "timestamp": "2026-03-01T11:59:58.123Z", "properties": {"plan": "team", "price": 19.90}}),
    );
    check(
        json!({"type": "track", "userId": 17, "event": "Report Exported"}),
        json!({"event": "Report Exported", "customerId": "17"}),
    );
    check(
        json!({"type": "track", "userId": "u", "event": "x", "properties": null, "messageId": null}),
        json!({"event": "x", "customerId": "u"}),
    );
}

#[test]
fn identify_links_and_keeps_traits_but_no_contact() {
    check(
        json!({"type": "identify", "userId": "u", "traits": {"plan": "team", "email": "anna@example.com",
            "stripeCustomerId": "cus_1"}}),
        json!({"event": "identify", "customerId": "u",
            "properties": {"stripeCustomerId": "cus_1", "traits": {"plan": "team"}}}),
    );
    check(
        json!({"type": "identify", "userId": "u", "traits": {"stripe_customer_id": "cus_2"}}),
        json!({"event": "identify", "customerId": "u", "properties": {"stripeCustomerId": "cus_2", "traits": {}}}),
    );
    check(
        json!({"type": "identify", "userId": "u", "context": {"active": false}}),
        json!({"event": "identify", "customerId": "u", "properties": {"traits": {}}}),
    );
    check_refused(
        json!({"type": "identify", "userId": "u", "context": {"groupId": "g"}, "traits": {"stripeCustomerId": "sub_1"}}),
        "invalid_stripe_customer",
    );
}

#[test]
fn views_are_page_views_without_queries() {
    check(
        json!({"type": "page", "userId": "u", "name": "Home", "category": null, "properties": {
            "path": "/home", "url": "https://app.example/home?token=1#top", "referrer": "https://a.example/?q=anna",
            "search": "?token=1", "title": "Home", "plan": 3}}),
        json!({"event": "page_view", "customerId": "u", "properties": {"path": "/home", "name": "Home",
            "url": "https://app.example/home", "referrer": "https://a.example/", "title": "Home", "plan": 3}}),
    );
    check(
        json!({"type": "screen", "userId": "u", "name": "Inbox", "category": "Mail"}),
        json!({"event": "page_view", "customerId": "u", "properties": {"name": "Inbox", "category": "Mail"}}),
    );
}

#[test]
fn pages_about_billing_are_told_apart() {
    let event = |message: Value| mapped(&message, Form::Single, None, CustomerOf::User).unwrap()["event"].clone();
    let page = |path: &str| json!({"type": "page", "userId": "u", "properties": {"path": path}});
    for billing in ["/billing", "/billing/", "/billing/invoices", "/billing?a=b", "/account/billing"] {
        assert_eq!(event(page(billing)), "billing_page_view", "{billing}");
    }
    for other in ["/", "/billings", "/my/billing", "/account", "billing", ""] {
        assert_eq!(event(page(other)), "page_view", "{other}");
    }
    let by_url = json!({"type": "page", "userId": "u", "properties": {"url": "https://app.example/billing/1"}});
    assert_eq!(event(by_url), "billing_page_view");
    let by_context = json!({"type": "page", "userId": "u", "context": {"page": {"path": "/billing"}}});
    assert_eq!(event(by_context), "billing_page_view");
    assert_eq!(event(json!({"type": "screen", "userId": "u", "name": "plans"})), "billing_page_view");
}

#[test]
fn groups_are_customers_where_the_account_says_so() {
    check_group(
        json!({"type": "track", "userId": "u", "event": "login", "context": {"groupId": "g-1"}}),
        json!({"event": "login", "customerId": "g-1", "userId": "u"}),
    );
    check_group(
        json!({"type": "group", "userId": "u", "groupId": "g-1", "traits": {"name": "Acme", "stripeCustomerId": "cus_1",
            "seats": 4}}),
        json!({"event": "identify", "customerId": "g-1", "userId": "u",
            "properties": {"stripeCustomerId": "cus_1", "traits": {"seats": 4}}}),
    );
    check_group(
        json!({"type": "page", "anonymousId": "a", "groupId": "g-1"}),
        json!({"event": "page_view", "customerId": "g-1", "properties": {}}),
    );
    let of_user =
        mapped(&json!({"type": "track", "userId": "u", "event": "login"}), Form::Single, None, CustomerOf::Group);
    assert_eq!(of_user, Err(Unmapped::NoGroup));
}

#[test]
fn a_group_of_users_that_are_customers_links_nothing() {
    check(
        json!({"type": "group", "userId": "u", "groupId": "g-1", "traits": {"stripeCustomerId": "cus_1", "seats": 4}}),
        json!({"event": "identify", "customerId": "u", "properties": {"groupId": "g-1", "traits": {"seats": 4}}}),
    );
}

#[test]
fn what_is_said_for_a_batch_counts_for_each_message_that_says_nothing_else() {
    let body = |context: Value| {
        json!({"batch": [{"type": "track", "event": "e", "userId": "u", "context": context}],
            "context": {"groupId": "all", "active": false}, "sentAt": "2026-03-01T12:00:00Z", "writeKey": "k"})
    };
    let customer = |context: Value| {
        let mapped = mapped(&body(context), Form::Batch, None, CustomerOf::Group)?;
        Ok(mapped["customerId"].as_str().unwrap().to_owned())
    };
    assert_eq!(customer(json!({"active": true})).as_deref(), Ok("all"));
    assert_eq!(customer(json!({"active": true, "groupId": "own"})).as_deref(), Ok("own"));
    assert_eq!(customer(json!({"groupId": "own"})), Err(Unmapped::Inactive));
}

#[test]
fn inactive_messages_are_no_activity() {
    let with = |event: &str| json!({"type": "track", "event": event, "userId": "u", "context": {"active": false}});
    for event in ["login", "anything"] {
        let outcome = mapped(&with(event), Form::Single, None, CustomerOf::User);
        assert_eq!(outcome, Err(Unmapped::Inactive), "{event}");
    }
    for event in ["payment_failed", "subscription_changed", "support_ticket"] {
        assert_eq!(mapped(&with(event), Form::Single, None, CustomerOf::User).unwrap()["event"], event);
    }
    let view = json!({"type": "page", "userId": "u", "context": {"active": false}});
    assert_eq!(mapped(&view, Form::Single, None, CustomerOf::User), Err(Unmapped::Inactive));
}

#[test]
fn the_senders_clock_is_corrected_when_it_is_plainly_wrong() {
    let at = |timestamp: Value, sent_at: Value| {
        let body = json!({"batch": [{"type": "track", "event": "e", "userId": "u", "timestamp": timestamp}], "sentAt": sent_at});
        mapped(&body, Form::Batch, None, CustomerOf::User).map(|event| event["timestamp"].clone()).unwrap()
    };
    for (timestamp, sent_at, expected) in [
        // Right, or nearly so: as told.
        ("2026-03-01T11:59:00Z", "2026-03-01T11:59:59Z", "2026-03-01T11:59:00Z"),
        ("2026-03-01T11:50:00Z", "2026-03-01T11:55:00.001Z", "2026-03-01T11:50:00Z"),
        // Five minutes behind, an hour ahead, years behind.
        ("2026-03-01T11:50:00Z", "2026-03-01T11:55:00Z", "2026-03-01T11:55:00Z"),
        ("2026-03-01T12:59:50Z", "2026-03-01T13:00:00Z", "2026-03-01T11:59:50Z"),
        ("2020-01-01T00:00:00Z", "2020-01-01T00:00:10Z", "2026-03-01T11:59:50Z"),
        // Days waiting offline, by a right clock.
        ("2026-02-20T12:00:00Z", "2026-03-01T12:00:00Z", "2026-02-20T12:00:00Z"),
        // Nothing is in the future.
        ("2026-03-01T12:00:01Z", "2026-03-01T12:00:00Z", "2026-03-01T12:00:00Z"),
        ("2027-03-01T12:00:00Z", "nonsense", "2026-03-01T12:00:00Z"),
        // As Python, PHP and others write it.
        ("2026-03-01T10:00:00.123456+00:00", "", "2026-03-01T10:00:00.123Z"),
        ("2026-03-01T10:00:00+0200", "", "2026-03-01T08:00:00Z"),
        ("2026-03-01T10:00:00", "", "2026-03-01T10:00:00Z"),
        ("2026-03-01", "", "2026-03-01T00:00:00Z"),
    ] {
        assert_eq!(at(json!(timestamp), json!(sent_at)), json!(expected), "{timestamp} sent {sent_at}");
    }
    assert_eq!(at(json!(1_772_366_399), Value::Null), json!("2026-03-01T11:59:59Z"));
    assert_eq!(at(json!(1_772_366_399_500_i64), Value::Null), json!("2026-03-01T11:59:59.5Z"));
    assert_eq!(at(Value::Null, json!("2020-01-01T00:00:00Z")), Value::Null);
}

#[test]
fn an_original_time_alone_is_corrected_and_beside_another_it_shows_that_that_was_done() {
    let at = |message: Value| {
        mapped(&message, Form::Single, Some(Call::Track), CustomerOf::User).unwrap()["timestamp"].clone()
    };
    let original = "2026-03-01T10:59:00Z";
    let sent = "2026-03-01T11:00:00Z";
    assert_eq!(
        at(json!({"userId": "u", "event": "e", "originalTimestamp": original, "sentAt": sent})),
        json!("2026-03-01T11:59:00Z")
    );
    let both = json!({"userId": "u", "event": "e", "originalTimestamp": original, "sentAt": sent,
        "timestamp": "2026-03-01T09:00:00Z"});
    assert_eq!(at(both), json!("2026-03-01T09:00:00Z"));
}

#[test]
fn the_path_says_what_the_message_does_not() {
    let call = |call| mapped(&json!({"userId": "u", "event": "e"}), Form::Single, call, CustomerOf::User);
    assert_eq!(call(Some(Call::Track)), Ok(json!({"event": "e", "customerId": "u"})));
    assert_eq!(call(Some(Call::Alias)), Err(Unmapped::Alias));
    assert_eq!(call(None), Err(Unmapped::UnknownCall));
}

#[test]
fn reasons_are_told_by_name() {
    let both = |fields: Value| {
        let mut message = json!({"type": "track", "event": "e", "userId": "u", "context": {"groupId": "g"}});
        message.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        message
    };
    check_refused(both(json!({"type": "Track"})), "unknown_call");
    check_refused(both(json!({"type": 7})), "unknown_call");
    check_refused(both(json!({"type": []})), "not_a_string");
    check_refused(both(json!({"event": null})), "missing_event");
    check_refused(both(json!({"event": {}})), "not_a_string");
    check_refused(both(json!({"userId": {}})), "not_a_string");
    check_refused(both(json!({"messageId": 1.5})), "not_a_string");
    check_refused(both(json!({"properties": []})), "properties_not_an_object");
    check_refused(both(json!({"type": "page", "properties": "x"})), "properties_not_an_object");
    check_refused(both(json!({"type": "identify", "traits": [1]})), "traits_not_an_object");
    check_refused(both(json!({"timestamp": "yesterday"})), "invalid_timestamp");
    check_refused(both(json!({"timestamp": {}})), "invalid_timestamp");
    check_refused(both(json!({"timestamp": i64::MAX})), "invalid_timestamp");
    check_refused(both(json!({"type": "alias", "previousId": "a"})), "alias");
    check_refused(both(json!({"properties": {"a": "x".repeat(33_000)}})), "oversize");
    check_refused(
        both(json!({"userId": "x".repeat(256), "context": {"groupId": "x".repeat(256)}})),
        "invalid_customer_id",
    );
    check_refused(json!([]), "not_an_object");
    check_refused(json!("x"), "not_an_object");
    let anonymous = json!({"type": "track", "event": "e", "userId": "", "anonymousId": "a"});
    assert_eq!(mapped(&anonymous, Form::Single, None, CustomerOf::User), Err(Unmapped::NoUser));
}

#[test]
fn bodies_are_read_or_refused_as_a_whole() {
    let code = |body: &str, form| Request::read(body.as_bytes(), form).map(|request| request.messages.len());
    let refused = |body: &str| code(body, Form::Batch).map_err(|error| error.code());
    assert_eq!(refused(r#"{"batch":[]}"#), Ok(0));
    assert_eq!(refused(r#"{"batch":[1,null,{}]}"#), Ok(3));
    assert_eq!(refused("{}"), Err("not_a_list"));
    assert_eq!(refused(r#"{"batch":{}}"#), Err("not_a_list"));
    assert_eq!(refused(r#"{"batch":[],"batch":[]}"#), Err("duplicate_field"));
    assert_eq!(refused(r#"{"batch":[],"writeKey":{}}"#), Err("not_a_string"));
    assert_eq!(refused(r#"{"batch":[],"writeKey":7}"#), Err("not_a_string"));
    assert_eq!(refused(r#"{"batch":[],"writeKey":null}"#), Ok(0));
    assert_eq!(refused(r#"{"batch":["#), Err("not_json"));
    assert_eq!(refused("[]"), Err("not_an_object"));
    assert_eq!(refused(""), Err("not_json"));
    assert_eq!(code("{}", Form::Single), Ok(1));
    let key = r#"{"writeKey":"pk_1","batch":[]}"#;
    assert_eq!(Request::read(key.as_bytes(), Form::Batch).unwrap().write_key.as_deref(), Some("pk_1"));
    let deep = format!(r#"{{"batch":[{}{}]}}"#, "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(refused(&deep), Ok(1));
}

#[test]
fn one_bad_message_leaves_the_others() {
    let body = r#"{"batch":[{"type":"track","userId":"\ud800","event":"e"},{"type":"track","userId":"u","event":"e"},
        {"type":"track","type":"page","userId":"u"}]}"#;
    let request = Request::read(body.as_bytes(), Form::Batch).unwrap();
    let mapping =
        Mapping { customer: CustomerOf::User, billing_pages: &[], drops_trait: is_contact, received_at: RECEIVED };
    let codes: Vec<_> = request
        .messages
        .iter()
        .map(|message| map(message, None, &request, &mapping).map(|_| ()).map_err(|error| error.code()))
        .collect();
    assert_eq!(codes, [Err("lone_surrogate"), Ok(()), Err("duplicate_field")]);
}

/// Values of all kinds, some of them likely to be meant.
fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
        Just(json!("track")),
        Just(json!("identify")),
        Just(json!("page")),
        Just(json!("group")),
        Just(json!("2026-03-01T12:00:00Z")),
        Just(json!("cus_1")),
        Just(json!("https://a.example/billing?x")),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map(name(), inner, 0..6)
                .prop_map(|fields| Value::from(serde_json::Map::from_iter(fields))),
        ]
    })
}

fn name() -> impl Strategy<Value = String> {
    const NAMES: [&str; 19] = [
        "type",
        "event",
        "userId",
        "groupId",
        "messageId",
        "properties",
        "traits",
        "context",
        "timestamp",
        "sentAt",
        "originalTimestamp",
        "name",
        "category",
        "url",
        "path",
        "active",
        "page",
        "stripeCustomerId",
        "batch",
    ];
    prop_oneof![9 => proptest::sample::select(&NAMES[..]).prop_map(str::to_owned), 1 => ".{0,6}"]
}

fn exercise(body: &[u8]) {
    let pages = pages();
    for form in [Form::Single, Form::Batch] {
        let Ok(request) = Request::read(body, form) else { continue };
        for customer in [CustomerOf::User, CustomerOf::Group] {
            let mapping = Mapping { customer, billing_pages: &pages, drops_trait: is_contact, received_at: RECEIVED };
            for message in &request.messages {
                for call in [None, Some(Call::Track), Some(Call::Identify), Some(Call::Screen), Some(Call::Group)] {
                    match map(message, call, &request, &mapping) {
                        Ok(body) => {
                            let decoded = decode(&body, Encoding::Json, &mut Vec::new()).map(|event| event.has_facts());
                            assert!(matches!(decoded, Ok(false) | Err(_)));
                        }
                        Err(error) => assert!(!error.code().is_empty() && !error.to_string().is_empty()),
                    }
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn any_json_is_mapped_or_refused(message in value(), batch in any::<bool>()) {
        let body = if batch { json!({"batch": [message], "sentAt": "2026-03-01T10:00:00Z"}) } else { message };
        exercise(body.to_string().as_bytes());
    }

    #[test]
    fn any_bytes_are_mapped_or_refused(body in proptest::collection::vec(any::<u8>(), 0..200)) {
        exercise(&body);
    }

    #[test]
    fn any_cut_body_is_refused(message in value(), cut in any::<proptest::sample::Index>()) {
        let body = json!({"batch": [message]}).to_string().into_bytes();
        exercise(&body[..cut.index(body.len())]);
    }
}
