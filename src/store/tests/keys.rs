//! Accounts, API keys and signing secrets.

use secrecy::ExposeSecret;

use super::{
    StoreError,
    rows::{account, hours},
    server::Database,
};
use crate::store::keys::{KeyKind, read_key};

#[tokio::test]
async fn an_account_has_two_active_keys_of_a_kind_at_most() {
    let (_database, store) = Database::migrated().await;
    let acme = account("acme");
    assert!(matches!(store.add_key(&acme, KeyKind::Secret).await, Err(StoreError::UnknownAccount(_))));
    store.add_account(&acme, "Acme").await.unwrap();
    assert!(matches!(store.add_account(&acme, "Acme").await, Err(StoreError::AccountExists(_))));

    let old = store.add_key(&acme, KeyKind::Secret).await.unwrap();
    let new = store.add_key(&acme, KeyKind::Secret).await.unwrap();
    store.add_key(&acme, KeyKind::Publishable).await.unwrap();
    let refused = store.add_key(&acme, KeyKind::Secret).await.unwrap_err();
    assert!(refused.to_string().contains(&old.prefix) && refused.to_string().contains(&new.prefix), "{refused}");

    let (kind, hash) = read_key(new.key.expose_secret()).unwrap();
    assert_eq!(kind, KeyKind::Secret);
    assert_eq!(store.find_key(&hash).await.unwrap().unwrap().account, acme);
    assert_eq!(store.revoke_key(&old.prefix).await.unwrap().id, old.id);
    assert!(matches!(store.revoke_key(&old.prefix).await, Err(StoreError::UnknownKey(_))));
    assert_eq!(store.revoke_key(new.key.expose_secret()).await.unwrap().id, new.id);
    assert_eq!(store.find_key(&hash).await.unwrap(), None);
    assert_eq!(store.active_keys().await.unwrap().len(), 1);
    assert_eq!(store.list_keys(&acme).await.unwrap().len(), 3);
    store.add_key(&acme, KeyKind::Secret).await.unwrap();
}

#[tokio::test]
async fn two_callers_at_once_do_not_make_a_third_key() {
    let (_database, store) = Database::migrated().await;
    let acme = account("acme");
    store.add_account(&acme, "Acme").await.unwrap();
    store.add_key(&acme, KeyKind::Secret).await.unwrap();
    let add = || store.add_key(&acme, KeyKind::Secret);
    let (one, two, three) = tokio::join!(add(), add(), add());
    assert_eq!([one.is_ok(), two.is_ok(), three.is_ok()].iter().filter(|ok| **ok).count(), 1);
}

#[tokio::test]
async fn keys_are_limited_touched_and_named_without_being_shown() {
    let (_database, store) = Database::migrated().await;
    let acme = account("acme");
    store.add_account(&acme, "Acme").await.unwrap();
    let key = store.add_key(&acme, KeyKind::Publishable).await.unwrap();
    store.limit_key(key.id, &["https://acme.example".to_owned()], Some(30)).await.unwrap();
    store.touch_keys(&[(key.id, hours(2))]).await.unwrap();
    store.touch_keys(&[(key.id, hours(1))]).await.unwrap();
    let stored = store.list_keys(&acme).await.unwrap().pop().unwrap();
    assert_eq!(stored.allowed_origins, ["https://acme.example"]);
    assert_eq!((stored.rate_per_minute, stored.last_used_at), (Some(30), Some(hours(2))));

    let wrong = key.key.expose_secret().replace("pk_", "sk_");
    let error = store.revoke_key(&wrong).await.unwrap_err();
    assert!(!error.to_string().contains(&wrong[11..]), "{error}");
    assert!(matches!(store.revoke_key("pk_").await, Err(StoreError::UnknownKey(_))));
    assert_eq!(store.revoke_key(&key.id.to_string()).await.unwrap().prefix, key.prefix);
    let dump = store.ask("SELECT k::text FROM api_keys k").await;
    assert!(!dump.contains(&key.key.expose_secret()[11..]));
}

#[tokio::test]
async fn signing_secrets_are_made_listed_revoked_and_never_shown() {
    let (_database, store) = Database::migrated().await;
    let acme = account("acme");
    assert!(matches!(store.add_stripe_secret(&acme, None, "").await, Err(StoreError::UnknownAccount(_))));
    store.add_account(&acme, "Acme").await.unwrap();
    let made = store.add_stripe_secret(&acme, None, "test").await.unwrap();
    let given = store.add_stripe_secret(&acme, Some("whsec_0123456789abcdef".into()), "live").await.unwrap();
    assert!(made.secret.expose_secret().starts_with("whsec_"));
    assert!(!format!("{given:?}").contains("0123456789"));
    let again = store.add_stripe_secret(&acme, Some("whsec_0123456789abcdef".into()), "live").await.unwrap();
    assert_eq!(again.id, given.id);
    assert!(store.revoke_stripe_secret(made.id).await.unwrap());
    assert!(!store.revoke_stripe_secret(made.id).await.unwrap());
    let listed = store.list_stripe_secrets().await.unwrap();
    assert_eq!(listed.iter().map(|secret| secret.label.as_str()).collect::<Vec<_>>(), ["live"]);
    assert_eq!(store.known_accounts().await.unwrap().into_iter().collect::<Vec<_>>(), [acme]);
}
