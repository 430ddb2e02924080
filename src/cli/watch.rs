//! `churnd watch`: alerts as they come.

use std::io::{self, IsTerminal as _};

use anyhow::Context as _;
use serde::Deserialize;
use uuid::Uuid;

use super::{
    connect,
    output::{self, NotPrinted},
    settings::Settings,
};
use crate::{
    engine::{alert::AlertKind, checkpoint::Level},
    event::{
        ids::{AccountId, StreamSequence},
        money::Money,
        time::Timestamp,
    },
    stream::{
        ALERTS,
        reader::{Reader, ReaderConfig, ReaderError, last_before},
    },
};

/// The flags of `churnd watch`.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Only this account's alerts
    #[arg(long, value_parser = output::account)]
    account: Option<AccountId>,
    /// Begin with the alerts since this instant, such as 2026-03-01T12:00:00Z; without it, from now on
    #[arg(long, value_name = "TIME")]
    since: Option<Timestamp>,
    /// End after so many alerts
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// Print alerts as they are, one line of JSON each
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    settings: Settings,
}

/// What is shown of an alert.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Alert {
    account: String,
    /// Absent where the alert concerns the whole account.
    customer_id: Option<String>,
    kind: AlertKind,
    level: Level,
    previous_level: Level,
    score: u8,
    factors: Vec<String>,
    suggested_action: Option<String>,
    mrr: Option<Money>,
    at: Timestamp,
}

impl Options {
    /// Shows alerts until Ctrl-C.
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let config = self.settings.load()?;
        let context = connect::jetstream(&config, "watch").await?;
        let after = match self.since {
            Some(instant) => last_before(&context, ALERTS, instant).await?,
            None => StreamSequence(connect::last_sequence(&context, ALERTS).await?),
        };
        let mut reader_config = ReaderConfig::new(format!("churnd-watch-{}", Uuid::new_v4().simple()), after);
        reader_config.filter = self.account.as_ref().map(|account| format!("churn.alerts.{account}.>"));
        let mut reader = Reader::open(&context, ALERTS, reader_config);
        match &self.account {
            Some(account) => eprintln!("watching the alerts of account {account}; Ctrl-C ends"),
            None => eprintln!("watching the alerts of all accounts; Ctrl-C ends"),
        }
        tokio::select! {
            outcome = self.show(&mut reader) => outcome?,
            signal = tokio::signal::ctrl_c() => signal.context("cannot wait for Ctrl-C")?,
        }
        reader.close().await;
        Ok(())
    }

    async fn show(&self, reader: &mut Reader) -> anyhow::Result<()> {
        let colored = io::stdout().is_terminal();
        let mut left = self.count.unwrap_or(u64::MAX);
        while left > 0 {
            let batch = match reader.next_batch().await {
                Ok(batch) => batch,
                // Alerts may be deleted; those that are left are shown.
                Err(ReaderError::Overtaken { .. }) => continue,
                Err(error) => return Err(error).context("cannot go on watching"),
            };
            for message in batch.messages {
                self.print(&message.payload, colored)?;
                left -= 1;
                if left == 0 {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn print(&self, body: &[u8], colored: bool) -> Result<(), NotPrinted> {
        if self.json {
            return output::line(String::from_utf8_lossy(body));
        }
        match serde_json::from_slice::<Alert>(body) {
            Ok(alert) => output::line(alert.as_line(self.account.is_none(), colored)),
            Err(error) => output::line(format!("an alert of a form that this churnd does not know: {error}")),
        }
    }
}

impl Alert {
    /// One line: when, who, what changed, why, what to do, and what is at stake.
    fn as_line(&self, with_account: bool, colored: bool) -> String {
        let who = match &self.customer_id {
            Some(customer) if with_account => format!("{}/{customer}", self.account),
            Some(customer) => customer.clone(),
            None => format!("account {}", self.account),
        };
        let mut line = format!(
            "{}  {}  score {:>3}  {who}",
            output::to_the_second(self.at),
            paint(&format!("{:<17}", self.change()), self.color(), colored),
            self.score
        );
        if let Some(mrr) = self.mrr.filter(|mrr| mrr.minor > 0) {
            line += &format!(" ({mrr}/month)");
        }
        if !self.factors.is_empty() {
            line += &format!(": {}", self.factors.join(" · "));
        }
        if let Some(action) = &self.suggested_action {
            line += &paint(&format!("  → {action}"), "1", colored);
        }
        line
    }

    fn change(&self) -> String {
        match self.kind {
            AlertKind::RiskRaised => format!("▲ {} → {}", self.previous_level.as_str(), self.level.as_str()),
            AlertKind::RiskLowered => format!("▼ {} → {}", self.previous_level.as_str(), self.level.as_str()),
            AlertKind::CustomerChurned => "✗ churned".to_owned(),
            AlertKind::CustomerRecovered => "✓ recovered".to_owned(),
            AlertKind::IngestAnomaly if self.level == Level::Low => "✓ events are back".to_owned(),
            AlertKind::IngestAnomaly => "! no events".to_owned(),
        }
    }

    fn color(&self) -> &'static str {
        match (self.kind, self.level) {
            (AlertKind::RiskLowered | AlertKind::CustomerRecovered, _) | (AlertKind::IngestAnomaly, Level::Low) => "32",
            (AlertKind::RiskRaised | AlertKind::CustomerChurned, Level::High) | (AlertKind::IngestAnomaly, _) => "31",
            (AlertKind::RiskRaised | AlertKind::CustomerChurned, _) => "33",
        }
    }
}

fn paint(text: &str, color: &str, colored: bool) -> String {
    if colored { format!("\x1b[{color}m{text}\x1b[0m") } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_who_what_why_and_what_to_do() {
        let body = r#"{"type":"io.churnd.alert.v1","id":"x","account":"acme","customerId":"c1","kind":"risk.raised",
            "level":"high","previousLevel":"low","score":80,"previousScore":0,"factors":["Payment disputed"],
            "details":[],"suggestedAction":"Call","mrr":{"amount":49000,"currency":"usd"},"forecast":[],
            "at":"2026-03-01T12:00:00.123Z","scale":"0 safe, 100 at risk"}"#;
        let alert: Alert = serde_json::from_str(body).unwrap();
        assert_eq!(
            alert.as_line(true, false),
            "2026-03-01T12:00:00Z  ▲ low → high       score  80  acme/c1 (490.00 usd/month): Payment disputed  → Call"
        );
    }
}
