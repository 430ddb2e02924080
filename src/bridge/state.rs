//! What the handlers work with.

use std::{fmt, sync::Arc, time::Duration};

use super::{
    config::{DashboardConfig, PrivacyConfig, SegmentConfig, TrackingConfig},
    dashboard::live::Live,
    intake::Intake,
    keys::KeyRing,
    rate::RateLimits,
    segment::tail::DroppedTail,
    slack::SlackInstall,
    stripe::SigningSecrets,
};
use crate::{
    event::time::Timestamp, notify::check::Checks, pipeline::risk::RiskDesk, store::Store,
    stream::publisher::Publisher, telemetry::metrics::Metrics,
};

/// What the handlers work with; cheap to clone.
#[derive(Clone)]
pub struct Bridge(Arc<Parts>);

/// The parts of a [`Bridge`], put together at the start.
pub struct Parts {
    /// The keys that count.
    pub keys: KeyRing,
    /// What Stripe signs webhooks with.
    pub signing_secrets: SigningSecrets,
    /// How often a key may be used.
    pub rates: RateLimits,
    /// The way to the dead letters, and back into the streams.
    pub letters: Publisher,
    /// The way into the event stream.
    pub intake: Intake,
    /// Postgres, for what is read.
    pub store: Store,
    /// Who knows a customer's risk.
    pub desk: RiskDesk,
    /// What is counted.
    pub metrics: Metrics,
    /// The time.
    pub now: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    /// How long a request's body may take to come.
    pub body_time: Duration,
    /// The settings for tracking.
    pub tracking: TrackingConfig,
    /// The settings for Segment's SDKs.
    pub segment: SegmentConfig,
    /// What Segment's SDKs sent and could not be used.
    pub dropped: DroppedTail,
    /// The settings of the dashboard.
    pub dashboard: DashboardConfig,
    /// The settings for personal data.
    pub privacy: PrivacyConfig,
    /// What is refused of channels before they are stored.
    pub checks: Checks,
    /// Installing the Slack app, where it is set up.
    pub slack: Option<SlackInstall>,
    /// Where users reach this server from outside, without a path.
    pub public_url: Option<String>,
    /// The dashboard's pages that are open.
    pub live: Live,
}

impl Bridge {
    /// Shares the parts with all handlers.
    pub fn new(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }

    /// The time.
    pub fn now(&self) -> Timestamp {
        (self.0.now)()
    }
}

impl std::ops::Deref for Bridge {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

impl fmt::Debug for Bridge {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Bridge")
    }
}
