//! Notices to look at: one of each kind, for previews and for checking templates.

use super::{
    alert::Alert,
    message::{Notice, Told},
};
use crate::event::{ids::AccountId, time::Timestamp};

/// The kinds of sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sample {
    /// A level rose.
    Raised,
    /// A level fell.
    Lowered,
    /// A customer left.
    Churned,
    /// A customer came back.
    Recovered,
    /// Events stopped coming.
    Anomaly,
    /// Many at once.
    Digest,
}

const RAISED: &str = r#"{"type":"io.churnd.alert.v1","id":"0q1v8l2m3n4o5p6q7r8s9t0u1v","account":"demo","customerId":"c-17",
    "kind":"risk.raised","level":"high","previousLevel":"medium","score":85,"previousScore":40,
    "factors":["Recent payment failure","No login for 15 days","Negative support interaction"],
    "details":[{"factor":"payment_failed","points":40,"reason":"Recent payment failure"},
        {"factor":"login_inactivity","points":30,"reason":"No login for 15 days"},
        {"factor":"negative_support","points":15,"reason":"Negative support interaction"}],
    "suggestedAction":"Ask for a new payment method","mrr":{"amount":120000,"currency":"eur"},
    "forecast":[{"silentUntil":"2026-12-03T09:30:00.001Z","score":55,"level":"medium"},
        {"silentUntil":"2027-01-02T09:30:00.001Z","score":30,"level":"low"}],
    "at":"2026-11-22T14:05:00Z","scale":"0 safe, 100 at risk"}"#;
const LOWERED: &str = r#"{"type":"io.churnd.alert.v1","id":"1q1v8l2m3n4o5p6q7r8s9t0u1v","account":"demo","customerId":"c-18",
    "kind":"risk.lowered","level":"low","previousLevel":"high","score":30,"previousScore":70,
    "factors":["No login for 20 days"],"details":[{"factor":"login_inactivity","points":30,"reason":"No login for 20 days"}],
    "suggestedAction":"Send re-engagement email","mrr":{"amount":4900,"currency":"usd"},"forecast":[],
    "at":"2026-11-22T14:06:00Z","scale":"0 safe, 100 at risk"}"#;
const CHURNED: &str = r#"{"type":"io.churnd.alert.v1","id":"2q1v8l2m3n4o5p6q7r8s9t0u1v","account":"demo","customerId":"c-19",
    "kind":"customer.churned","level":"high","previousLevel":"high","score":100,"previousScore":80,
    "factors":[],"details":[],"suggestedAction":null,"mrr":null,"forecast":[],
    "at":"2026-11-22T14:07:00Z","scale":"0 safe, 100 at risk"}"#;
const RECOVERED: &str = r#"{"type":"io.churnd.alert.v1","id":"3q1v8l2m3n4o5p6q7r8s9t0u1v","account":"demo","customerId":"c-20",
    "kind":"customer.recovered","level":"low","previousLevel":"high","score":0,"previousScore":100,
    "factors":[],"details":[],"suggestedAction":null,"mrr":{"amount":9900,"currency":"usd"},
    "forecast":[{"silentUntil":"2026-12-03T14:08:00Z","score":40,"level":"medium"}],
    "at":"2026-11-22T14:08:00Z","scale":"0 safe, 100 at risk"}"#;
const ANOMALY: &str = r#"{"type":"io.churnd.alert.v1","id":"4q1v8l2m3n4o5p6q7r8s9t0u1v","account":"demo","customerId":null,
    "kind":"ingest.anomaly","level":"high","previousLevel":"low","score":0,"previousScore":0,
    "factors":["Events fell to 0 in the last 60 minutes, usually about 1,200: tracking may be broken"],"details":[],
    "suggestedAction":"Check whether tracking still sends events; alerts about missing logins and usage are held back until it does","mrr":null,"forecast":[],
    "at":"2026-11-22T14:09:00Z","scale":"0 safe, 100 at risk"}"#;

/// A notice of a kind.
pub fn notice(sample: Sample) -> Notice {
    let alerts: &[(&str, Option<&str>)] = match sample {
        Sample::Raised => &[(RAISED, Some("Example Ltd"))],
        Sample::Lowered => &[(LOWERED, None)],
        Sample::Churned => &[(CHURNED, Some("Sample & Sons"))],
        Sample::Recovered => &[(RECOVERED, None)],
        Sample::Anomaly => &[(ANOMALY, None)],
        Sample::Digest => &[
            (RAISED, Some("Example Ltd")),
            (LOWERED, None),
            (CHURNED, Some("Sample & Sons")),
            (RECOVERED, None),
            (ANOMALY, None),
        ],
    };
    let told = |(body, company): &(&str, Option<&str>)| Told {
        alert: serde_json::from_str(body).expect("a test reads the samples"),
        company: company.map(str::to_owned),
    };
    let alerts: Vec<Told> = alerts.iter().map(told).collect();
    let key = if alerts.len() > 1 {
        "digest-00000000-0000-7000-8000-000000000000".to_owned()
    } else {
        alerts[0].alert.id.clone()
    };
    Notice { key, alerts }
}

/// One of each kind.
pub fn all() -> Vec<Notice> {
    use Sample::{Anomaly, Churned, Digest, Lowered, Raised, Recovered};
    [Raised, Lowered, Churned, Recovered, Anomaly, Digest].map(notice).into()
}

/// An alert that says of itself that it is a test, for trying a channel out.
pub fn test_alert(id: &str, account: &AccountId, at: Timestamp) -> Alert {
    let Told { alert, .. } = notice(Sample::Raised).alerts.swap_remove(0);
    Alert {
        id: id.to_owned(),
        account: account.clone(),
        customer_id: Some("test".to_owned()),
        factors: vec!["This is a test of the channel: no customer is at risk".to_owned()],
        details: Vec::new(),
        suggested_action: Some("Nothing to do".to_owned()),
        mrr: None,
        forecast: Vec::new(),
        at,
        ..alert
    }
}
