//! Webhooks, signed as Standard Webhooks has it: any library of that scheme can check them.
//!
//! The body is the alert as it stands in its stream; a digest is `{"type":"io.churnd.digest.v1","alerts":[…]}`. `webhook-id` is the
//! key, so a receiver knows repeats by it. Every secret signs, the newest first, so that secrets can be changed without a gap.

use bytes::Bytes;
use data_encoding::{BASE64, BASE64_NOPAD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use http_body_util::Full;
use hyper::{Request, StatusCode, header};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::json;
use sha2::Sha256;

use super::{
    answer::{gone, judged, refused, unanswered},
    message::Notice,
    send::{Failure, Receipt},
};
use crate::{event::time::Timestamp, web::guard::GuardedWeb};

/// Who we are.
pub(super) const AGENT: &str = concat!("churnd/", env!("CARGO_PKG_VERSION"));
/// How many bytes a secret has.
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// Sends a notice to a URL.
pub(super) async fn send(
    web: &GuardedWeb,
    url: &SecretString,
    secrets: &[SecretString],
    notice: &Notice,
    now: Timestamp,
) -> Result<Receipt, Failure> {
    let target =
        web.target(url.expose_secret()).map_err(|error| gone(format!("the webhook cannot be asked: {error}")))?;
    let body = body(notice);
    let seconds = now.millis().div_euclid(1_000);
    let signature = signature(secrets, &notice.key, seconds, &body).map_err(gone)?;
    let request = Request::post("/")
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::USER_AGENT, AGENT)
        .header("webhook-id", &notice.key)
        .header("webhook-timestamp", seconds)
        .header("webhook-signature", signature)
        .body(Full::new(Bytes::from(body)))
        .map_err(|_| refused("the message's key cannot stand in a header"))?;
    let answer = web.send(&target, request).await.map_err(|error| unanswered(&error))?;
    if answer.status().is_success() {
        return Ok(Receipt::default());
    }
    // A receiver that is being built, or whose signature is wrong for now, deserves more tries than one that is gone.
    let who = target.host_str().unwrap_or("the receiver");
    Err(match judged(who, &answer, now) {
        Failure::Refused { reason } if answer.status() != StatusCode::PAYLOAD_TOO_LARGE => {
            Failure::Again { reason, after: None }
        }
        other => other,
    })
}

/// The alert as it stands in the stream; several under `alerts`.
pub(super) fn body(notice: &Notice) -> String {
    let alerts: Vec<_> = notice.alerts.iter().map(|told| &told.alert).collect();
    let body = match alerts.as_slice() {
        [alert] => serde_json::to_string(alert),
        alerts => {
            let account = alerts.first().map(|alert| &alert.account);
            let digest = json!({
                "type": "io.churnd.digest.v1", "id": notice.key, "account": account, "count": alerts.len(), "alerts": alerts,
            });
            serde_json::to_string(&digest)
        }
    };
    body.expect("an alert has only plain values")
}

/// `v1,…` for each secret, with spaces between them.
fn signature(secrets: &[SecretString], id: &str, seconds: i64, body: &str) -> Result<String, String> {
    let signed = format!("{id}.{seconds}.{body}");
    let signatures = secrets.iter().map(|secret| {
        let mut mac = Hmac::<Sha256>::new_from_slice(&key_of(secret)?).expect("a key of any length will do");
        mac.update(signed.as_bytes());
        Ok(format!("v1,{}", BASE64.encode(&mac.finalize().into_bytes())))
    });
    let signatures: Vec<String> = signatures.collect::<Result<_, String>>()?;
    if signatures.is_empty() {
        Err("the webhook has no secret to sign with".to_owned())
    } else {
        Ok(signatures.join(" "))
    }
}

/// The bytes of a secret: `whsec_` and base64 of 24 to 64 bytes.
pub fn key_of(secret: &SecretString) -> Result<Vec<u8>, String> {
    let told = || "a webhook's secret must be whsec_ and base64 of 24 to 64 bytes".to_owned();
    let text = secret.expose_secret().strip_prefix("whsec_").ok_or_else(told)?;
    let bytes = BASE64.decode(text.as_bytes()).or_else(|_| BASE64_NOPAD.decode(text.as_bytes())).map_err(|_| told())?;
    if SECRET_BYTES.contains(&bytes.len()) { Ok(bytes) } else { Err(told()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notify::sample::{self, Sample};

    #[test]
    fn the_scheme_s_own_example_is_signed_alike() {
        let secret = SecretString::from("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
        let body = r#"{"test": 2432232314}"#;
        let told =
            signature(std::slice::from_ref(&secret), "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body).unwrap();
        assert_eq!(told, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        let two = signature(&[secret.clone(), secret], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body).unwrap();
        assert_eq!(two, format!("{told} {told}"));
        assert!(signature(&[], "x", 1, body).is_err());
    }

    #[test]
    fn secrets_have_their_form() {
        let bytes = |count: usize| format!("whsec_{}", BASE64.encode(&vec![7; count]));
        for (secret, good) in [
            (bytes(24), true),
            (bytes(64), true),
            (bytes(23), false),
            (bytes(65), false),
            (BASE64.encode(&[7; 24]), false),
            ("whsec_???".to_owned(), false),
        ] {
            assert_eq!(key_of(&SecretString::from(secret.clone())).is_ok(), good, "{secret}");
        }
    }

    #[test]
    fn an_alert_is_handed_on_as_it_came() {
        let notice = sample::notice(Sample::Anomaly);
        let body: serde_json::Value = serde_json::from_str(&body(&notice)).unwrap();
        assert_eq!((&body["type"], &body["scale"]), (&json!("io.churnd.alert.v1"), &json!("0 safe, 100 at risk")));
        assert_eq!((&body["kind"], &body["customerId"]), (&json!("ingest.anomaly"), &json!(null)));
        let digest: serde_json::Value = serde_json::from_str(&super::body(&sample::notice(Sample::Digest))).unwrap();
        assert_eq!((digest["alerts"].as_array().unwrap().len(), &digest["count"]), (5, &json!(5)));
        assert_eq!(digest["alerts"][0]["mrr"], json!({"amount": 120_000, "currency": "eur"}));
    }
}
