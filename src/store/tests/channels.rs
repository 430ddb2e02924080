//! Channels and what is sent to them: names, secrets, the queue, claims, and what is recorded of tries.

use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use uuid::Uuid;

use super::{
    Store, StoreError,
    rows::{account, customer, hours},
    server::Database,
};
use crate::store::{
    channels::{ChannelChange, NewChannel, Settings, Target, Templates, new_webhook_secret},
    deliveries::{DeliveryQuery, DeliveryState, HeldReason, NewDelivery},
    lanes::Outcome,
};

const SPAN: Duration = Duration::from_secs(60);

fn mail(name: &str) -> NewChannel {
    NewChannel {
        name: name.to_owned(),
        target: Target::Email { to: vec!["team@example.com".to_owned()] },
        settings: Settings::default(),
        templates: Templates::default(),
    }
}

fn hook(name: &str) -> NewChannel {
    let target = Target::Webhook {
        url: SecretString::from("https://example.com/canary-path"),
        secrets: vec![new_webhook_secret()],
    };
    NewChannel { target, ..mail(name) }
}

async fn ready() -> (Database, Store) {
    let (database, store) = Database::migrated().await;
    store.add_account(&account("acme"), "Acme").await.unwrap();
    store.add_account(&account("other"), "Other").await.unwrap();
    (database, store)
}

async fn enqueue(store: &Store, alert: &str, token: &str, channels: &[Uuid]) -> Vec<u64> {
    let acme = account("acme");
    let body = alert.as_bytes();
    let new = NewDelivery { account: &acme, alert_id: alert, token: Some(token), body, is_test: false, at: hours(1) };
    store.enqueue_alert(&new, channels).await.unwrap()
}

async fn claim(store: &Store, me: Uuid, hour: i64) -> Vec<Uuid> {
    let lanes = store.claim_lanes(me, SPAN, hours(hour), false, 10, &[]).await.unwrap();
    lanes.into_iter().map(|channel| channel.id).collect()
}

#[test]
fn what_cannot_work_is_refused_by_its_field() {
    let secret = new_webhook_secret();
    let webhook = |url: &str, secrets: Vec<SecretString>| Target::Webhook { url: url.into(), secrets };
    for (target, expected) in [
        (Target::Email { to: vec![] }, "to must hold"),
        (Target::Email { to: vec!["a b@example.com".to_owned()] }, "to holds what is no address"),
        (Target::Email { to: vec!["a@b.example, c@d.example".to_owned()] }, "to holds what is no address"),
        (Target::SlackWebhook { url: "ftp://hooks.slack.com/x".into() }, "url must be"),
        (Target::SlackApp { token: "abc".into(), channel: "C1".to_owned() }, "token is no bot token"),
        (Target::SlackApp { token: "xoxb-1".into(), channel: String::new() }, "channel must be"),
        (webhook("https://example.com/\n", vec![secret.clone()]), "url must be"),
        (webhook("https://example.com/", vec![]), "secrets must be one"),
        (webhook("https://example.com/", vec!["whsec_c2hvcnQ=".into()]), "secrets must be whsec_"),
    ] {
        let problems = NewChannel { target, ..mail("x") }.problems();
        assert!(problems.len() == 1 && problems[0].starts_with(expected), "{problems:?}");
    }
    assert_eq!(
        NewChannel { target: webhook("https://example.com/a?b", vec![secret]), ..mail("x") }.problems().len(),
        0
    );
    for name in ["", " a", "a\n", &"x".repeat(65)] {
        assert_eq!(mail(name).problems().len(), 1, "{name:?}");
    }
    for (settings, expected) in [
        (r#"{"quietHours":{"from":"8:00","to":"09:00","zone":"UTC"}}"#, "quietHours.from"),
        (r#"{"quietHours":{"from":"08:00","to":"24:00","zone":"UTC"}}"#, "quietHours.to"),
        (r#"{"quietHours":{"from":"08:00","to":"08:00","zone":"UTC"}}"#, "quietHours.to"),
        (r#"{"quietHours":{"from":"08:00","to":"09:00","zone":"Europe/Nowhere"}}"#, "quietHours.zone"),
        (r#"{"perHour":0}"#, "perHour"),
        (r#"{"digestAfter":1}"#, "digestAfter"),
        (r#"{"minimumMrr":-1}"#, "minimumMrr"),
    ] {
        let problems = serde_json::from_str::<Settings>(settings).unwrap().problems();
        assert!(problems.len() == 1 && problems[0].starts_with(expected), "{settings}: {problems:?}");
    }
}

#[tokio::test]
async fn channels_come_and_go_and_keep_their_secrets_to_themselves() {
    let (_database, store) = ready().await;
    let (acme, other) = (account("acme"), account("other"));
    let id = store.add_channel(&acme, &hook("ops")).await.unwrap();
    let taken = store.add_channel(&acme, &mail("ops")).await;
    assert!(matches!(taken, Err(StoreError::ChannelExists(_))));
    store.add_channel(&other, &mail("ops")).await.unwrap();
    assert!(matches!(store.add_channel(&account("none"), &mail("x")).await, Err(StoreError::UnknownAccount(_))));
    let channel = store.channel(&acme, id).await.unwrap().unwrap();
    let Target::Webhook { url, .. } = &channel.target else { panic!("{channel:?}") };
    assert_eq!(url.expose_secret(), "https://example.com/canary-path");
    assert_eq!(channel.target.shown(), "https://example.com/…");
    assert!(!format!("{channel:?}").contains("canary") && !format!("{channel:?}").contains("whsec_"));
    assert!(store.channel(&other, id).await.unwrap().is_none());

    let change = ChannelChange { name: Some("night".to_owned()), ..ChannelChange::default() };
    assert!(store.change_channel(&acme, id, &change).await.unwrap());
    assert!(!store.change_channel(&other, id, &change).await.unwrap());
    let other_kind = ChannelChange { target: Some(mail("x").target), ..ChannelChange::default() };
    assert!(!store.change_channel(&acme, id, &other_kind).await.unwrap(), "a channel stays of its kind");
    store.add_channel(&acme, &mail("day")).await.unwrap();
    let change = ChannelChange { name: Some("day".to_owned()), ..ChannelChange::default() };
    assert!(matches!(store.change_channel(&acme, id, &change).await, Err(StoreError::ChannelExists(_))));

    assert!(store.pause_channel(&acme, id, "by hand").await.unwrap());
    assert!(!store.pause_channel(&acme, id, "again").await.unwrap());
    assert_eq!(store.troubled_channels().await.unwrap()[0].paused.as_ref().unwrap().1, "by hand");
    assert!(store.resume_channel(&acme, id).await.unwrap());
    assert_eq!(enqueue(&store, "a1", "c", &[id]).await.len(), 1);
    assert!(!store.remove_channel(&other, id).await.unwrap());
    assert!(store.remove_channel(&acme, id).await.unwrap());
    assert!(!store.ask("SELECT c::text FROM channels c").await.contains("canary"));
    assert_eq!(store.ask("SELECT state FROM deliveries").await, "canceled");
    assert_eq!(store.list_channels(&acme).await.unwrap().len(), 1);
    store.add_channel(&acme, &mail("night")).await.unwrap();
}

#[tokio::test]
async fn an_alert_is_taken_once_for_each_channel_and_not_about_who_was_erased() {
    let (_database, store) = ready().await;
    let acme = account("acme");
    let one = store.add_channel(&acme, &mail("one")).await.unwrap();
    let two = store.add_channel(&acme, &mail("two")).await.unwrap();
    let foreign = store.add_channel(&account("other"), &mail("one")).await.unwrap();
    assert_eq!(enqueue(&store, "a1", "c", &[one]).await.len(), 1);
    assert_eq!(enqueue(&store, "a1", "c", &[one, two, foreign]).await.len(), 1, "one has it, one is another's");
    assert!(enqueue(&store, "a1", "c", &[one, two]).await.is_empty());
    store.request_erasure(&acme, &customer("gone")).await.unwrap();
    assert!(enqueue(&store, "a2", "gone", &[one, two]).await.is_empty());
    let all = DeliveryQuery { limit: 10, ..DeliveryQuery::default() };
    assert_eq!(store.list_deliveries(&acme, &all).await.unwrap().len(), 2);
    for (query, expected) in [
        (DeliveryQuery { channel: Some(one), ..all }, 1),
        (DeliveryQuery { token: Some("c"), ..all }, 2),
        (DeliveryQuery { token: Some("d"), ..all }, 0),
        (DeliveryQuery { state: Some(DeliveryState::Pending), ..all }, 2),
        (DeliveryQuery { state: Some(DeliveryState::Delivered), ..all }, 0),
    ] {
        assert_eq!(store.list_deliveries(&acme, &query).await.unwrap().len(), expected, "{query:?}");
    }
    assert_eq!(store.list_deliveries(&account("other"), &all).await.unwrap(), []);
    assert_eq!(store.delivery_backlog().await.unwrap().pending, 2);
    let sums = store.delivery_sums(&acme, hours(0)).await.unwrap();
    assert_eq!(sums.iter().map(|sums| (sums.pending, sums.delivered)).collect::<Vec<_>>(), [(1, 0), (1, 0)]);
}

#[tokio::test]
async fn a_channel_is_worked_on_by_one_instance_at_a_time() {
    let (_database, store) = ready().await;
    let acme = account("acme");
    let id = store.add_channel(&acme, &mail("one")).await.unwrap();
    let (me, other) = (Uuid::new_v4(), Uuid::new_v4());
    assert!(claim(&store, me, 9).await.is_empty(), "nothing waits");
    let ids = enqueue(&store, "a1", "c", &[id]).await;
    assert!(claim(&store, me, 0).await.is_empty(), "it is not due yet");
    assert_eq!(claim(&store, me, 1).await, [id]);
    assert!(claim(&store, other, 1).await.is_empty());
    assert_eq!(store.next_delivery_due().await.unwrap(), None);
    assert_eq!(store.begin_message(me, id, "k", &ids, hours(1)).await.unwrap().len(), 1);
    store.run("UPDATE channels SET claimed_until = now() - interval '1 s'").await;
    assert_eq!(claim(&store, other, 1).await, [id], "whoever claimed it may have died");
    assert_eq!(store.keep_lane(me, id, SPAN).await.unwrap(), None);
    let delivered = Outcome::Delivered { reference: Some("ts") };
    assert_eq!(store.record_try(me, id, "k", hours(2), delivered).await.unwrap(), 0);
    let rows = store.waiting(id, 10).await.unwrap();
    assert_eq!(rows[0].key.as_deref(), Some("k"), "it goes on under the same key");
    assert_eq!(store.begin_message(other, id, "other", &ids, hours(2)).await.unwrap(), []);
    assert_eq!(store.begin_message(other, id, "k", &ids, hours(2)).await.unwrap()[0].first_attempt_at, hours(1));
    assert_eq!(store.record_try(other, id, "k", hours(2), delivered).await.unwrap(), 1);
    assert_eq!(store.sent_since(id, hours(1)).await.unwrap()[0].tokens, ["c"]);
    assert_eq!(store.sent_since(id, hours(2)).await.unwrap(), []);
    let channel = store.channel(&acme, id).await.unwrap().unwrap();
    let last = store.last_message(&channel, "c").await.unwrap().unwrap();
    assert_eq!((last.reference.as_deref(), last.key.as_str(), last.body.as_slice()), (Some("ts"), "k", &b"a1"[..]));
    assert_eq!(store.last_message(&channel, "d").await.unwrap(), None);
    store.release_lane(other, id).await.unwrap();
    assert!(claim(&store, me, 9).await.is_empty());
}

#[tokio::test]
async fn a_failing_channel_is_due_when_it_may_be_tried_and_healed_at_once() {
    let (_database, store) = ready().await;
    let acme = account("acme");
    let id = store.add_channel(&acme, &mail("one")).await.unwrap();
    let ids = [enqueue(&store, "a1", "c", &[id]).await, enqueue(&store, "a2", "d", &[id]).await].concat();
    let me = Uuid::new_v4();
    let failing = async |hour| store.claim_lanes(me, SPAN, hours(hour), true, 10, &[]).await.unwrap().len();
    claim(&store, me, 1).await;
    store.begin_message(me, id, "k", &ids[..1], hours(1)).await.unwrap();
    let again = Outcome::Again { error: "500", message_at: hours(5), channel_at: hours(3) };
    assert_eq!(store.record_try(me, id, "k", hours(1), again).await.unwrap(), 1);
    store.release_lane(me, id).await.unwrap();
    assert_eq!(store.next_delivery_due().await.unwrap(), Some(hours(3)), "the other message, when the channel may");
    assert_eq!((failing(2).await, claim(&store, me, 3).await.len(), failing(3).await), (0, 0, 1));
    store.begin_message(me, id, "l", &ids[1..], hours(3)).await.unwrap();
    store.record_try(me, id, "l", hours(3), Outcome::Delivered { reference: None }).await.unwrap();
    assert_eq!(store.channel(&acme, id).await.unwrap().unwrap().failing_since, None);
    store.heal_lane(id, hours(3)).await.unwrap();
    let waiting = store.waiting(id, 10).await.unwrap();
    assert_eq!((waiting.len(), waiting[0].next_attempt_at, waiting[0].held), (1, hours(3), None));
    store.hold(id, &ids, hours(7), HeldReason::Limit).await.unwrap();
    assert_eq!(store.waiting(id, 10).await.unwrap()[0].held, Some(HeldReason::Limit));
    assert_eq!(store.delivery_backlog().await.unwrap().oldest, None, "nobody has to hurry");
    store.record_try(me, id, "k", hours(7), Outcome::Gone { error: "410" }).await.unwrap();
    store.release_lane(me, id).await.unwrap();
    assert_eq!(store.troubled_channels().await.unwrap()[0].paused, Some((hours(7), "410".to_owned())));
    assert_eq!((failing(9).await, claim(&store, me, 9).await.len()), (0, 0));
    store.resume_channel(&acme, id).await.unwrap();
    assert_eq!(claim(&store, me, 9).await, [id]);
    assert_eq!(store.record_try(me, id, "k", hours(9), Outcome::Refused { error: "no" }).await.unwrap(), 1);
    let sums = store.delivery_sums(&acme, hours(0)).await.unwrap().remove(0);
    assert_eq!((sums.delivered, sums.refused, sums.pending, sums.last_delivered), (1, 1, 0, Some(hours(3))));
    assert_eq!(store.prune_deliveries(hours(2), 10).await.unwrap(), 2);
}
