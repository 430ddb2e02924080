//! The alerts about an account as a whole: its events stopped coming, or are back.

use data_encoding::BASE32HEX_NOPAD;
use xxhash_rust::xxh3::xxh3_128;

use super::{JUDGED, Judgement, SLOT_MILLIS};
use crate::{
    engine::{
        alert::{AlertBody, AlertKind, SCALE},
        checkpoint::{Level, OutboxKind, OutboxRow},
    },
    event::{
        ids::{AccountId, CustomerId},
        subject,
        time::Timestamp,
    },
};

/// The token of alerts about an account as a whole. No customer has it: in a customer's token two capital hex digits, or
/// an `h` and a hash, follow a `=`.
pub const ACCOUNT_TOKEN: &str = "=account";

/// The alert that an account's events collapsed, or are back; and its id. There is none where nothing changed.
pub fn alert(
    account: &AccountId,
    judgement: Judgement,
    since: Timestamp,
    at: Timestamp,
) -> Option<(String, OutboxRow)> {
    let minutes = JUDGED * SLOT_MILLIS / 60_000;
    let (level, previous_level, factor, action) = match judgement {
        Judgement::AsBefore => return None,
        Judgement::Collapsed { expected, seen, .. } => (
            Level::High,
            Level::Low,
            format!(
                "Events fell to {} in the last {minutes} minutes, usually about {}: tracking may be broken",
                grouped(seen),
                grouped(rounded(expected))
            ),
            Some(
                "Check whether tracking still sends events; alerts about missing logins and usage are held back until it \
                 does",
            ),
        ),
        Judgement::Returned { expected, seen } => (
            Level::Low,
            Level::High,
            format!(
                "Events are back: {} in the last {minutes} minutes, usually about {}",
                grouped(seen),
                grouped(rounded(expected))
            ),
            None,
        ),
    };
    let told = format!("{account}.{ACCOUNT_TOKEN}.{}.{}", since.millis(), level.as_str());
    let id = BASE32HEX_NOPAD.encode(&xxh3_128(told.as_bytes()).to_be_bytes()).to_ascii_lowercase();
    let body = AlertBody {
        body_type: "io.churnd.alert.v1",
        id: &id,
        account,
        customer_id: None,
        kind: AlertKind::IngestAnomaly,
        level,
        previous_level,
        score: 0,
        previous_score: 0,
        factors: vec![&factor],
        details: &[],
        suggested_action: action,
        mrr: None,
        forecast: Vec::new(),
        at,
        scale: SCALE,
    };
    let row = OutboxRow {
        account: account.clone(),
        token: ACCOUNT_TOKEN.into(),
        customer: CustomerId::parse(ACCOUNT_TOKEN).expect("it is short and not empty"),
        message_id: format!("{account}:alert:{id}"),
        subject: subject::alert_subject(account, level.as_str(), ACCOUNT_TOKEN, &id),
        body: serde_json::to_vec(&body).expect("an alert has only plain values"),
        kind: OutboxKind::Alert,
        at,
    };
    Some((id, row))
}

/// Two digits tell enough.
fn rounded(number: u64) -> u64 {
    let unit = 10_u64.pow(number.checked_ilog10().unwrap_or(0).saturating_sub(1));
    number.saturating_add(unit / 2) / unit * unit
}

fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
