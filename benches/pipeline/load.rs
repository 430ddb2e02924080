//! The events: about 200 bytes each, of many customers, of whom few are busy (Zipf), with timestamps of the last minutes,
//! so that every event is scored at once rather than taken for imported history.

use churnd::{event::time::Timestamp, stream::publisher::Outgoing};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

/// The account that all events belong to.
pub(crate) const ACCOUNT: &str = "acme";
/// Events spread over this long before now; an hour would make history of them.
const SPREAD_MILLIS: u64 = 50 * 60_000;

/// What happens, in how many of a thousand events, with which properties.
const KINDS: [(&str, u32, &str); 11] = [
    ("feature_used", 300, r#"{"feature":"export","plan":"growth","source":"web"}"#),
    ("page_viewed", 220, r#"{"page":"/reports/weekly","source":"web"}"#),
    ("api_call", 180, r#"{"endpoint":"/v1/reports","status":200}"#),
    ("login", 100, r#"{"method":"sso","source":"web"}"#),
    ("report_created", 70, r#"{"report":"retention","rows":1200}"#),
    ("file_uploaded", 50, r#"{"kind":"csv","bytes":48213}"#),
    ("invite_sent", 40, r#"{"role":"editor"}"#),
    ("billing_page_view", 18, r#"{"page":"/billing/plans"}"#),
    ("support_ticket", 12, r#"{"channel":"email","sentiment":"neutral"}"#),
    ("payment_succeeded", 6, r#"{"amount":4900,"currency":"usd"}"#),
    ("payment_failed", 4, r#"{"amount":4900,"currency":"usd"}"#),
];

/// So many events of so many customers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) events: u64,
    pub(crate) customers: usize,
}

/// An event before it is written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Planned {
    pub(crate) number: u64,
    pub(crate) customer: usize,
    kind: usize,
    at: Timestamp,
}

/// A reproducible stream of events that ends now.
pub(crate) fn plan(shape: Shape, now: Timestamp) -> impl Iterator<Item = Planned> {
    let mut random = StdRng::seed_from_u64(shape.customers as u64);
    let busy = Zipf::new(shape.customers);
    (0..shape.events).map(move |number| {
        // Every customer comes once before chance decides.
        let customer = match usize::try_from(number) {
            Ok(number) if number < shape.customers => number,
            _ => busy.pick(random.random()),
        };
        let kind = if number < shape.customers as u64 { 3 } else { kind_of(random.random_range(0..1_000)) };
        let before_now = SPREAD_MILLIS - SPREAD_MILLIS * number / shape.events;
        let at = now.plus_millis(-i64::try_from(before_now).unwrap_or_default());
        Planned { number, customer, kind, at }
    })
}

impl Planned {
    /// The event as its sender publishes it.
    pub(crate) fn outgoing(&self) -> Outgoing {
        let subject = format!("churn.events.{ACCOUNT}.{}", token(self.customer));
        Outgoing::new(subject, self.body()).with_id(format!("{ACCOUNT}:{}", self.id()))
    }

    /// Its body.
    pub(crate) fn body(&self) -> String {
        let (name, _, properties) = KINDS[self.kind];
        let (id, customer, at, user) = (self.id(), token(self.customer), self.at, self.number % 40);
        format!(
            r#"{{"event":"{name}","id":"{id}","customerId":"{customer}","timestamp":"{at}","userId":"user-{user:03}","properties":{properties}}}"#
        )
    }

    /// When it happened.
    pub(crate) fn at(&self) -> Timestamp {
        self.at
    }

    fn id(&self) -> String {
        format!("evt-{:09x}", self.number)
    }
}

/// An event of a customer that happens now.
pub(crate) fn event_now(name: &str, customer: usize, id: &str) -> Outgoing {
    let token = token(customer);
    let body = format!(
        r#"{{"event":"{name}","id":"{id}","customerId":"{token}","userId":"user-001","properties":{{"source":"web"}}}}"#
    );
    Outgoing::new(format!("churn.events.{ACCOUNT}.{token}"), body).with_id(format!("{ACCOUNT}:{id}"))
}

/// A customer's id, which is its token too.
pub(crate) fn token(customer: usize) -> String {
    format!("customer-{customer:06}")
}

fn kind_of(mut share: u32) -> usize {
    for (kind, (_, of_thousand, _)) in KINDS.iter().enumerate() {
        if share < *of_thousand {
            return kind;
        }
        share -= of_thousand;
    }
    0
}

/// The n-th customer is as busy as 1/n.
struct Zipf {
    cumulated: Vec<f64>,
}

impl Zipf {
    fn new(customers: usize) -> Self {
        let mut sum = 0.0;
        let cumulated = (1..=customers).map(|rank| {
            sum += 1.0 / rank as f64;
            sum
        });
        Self { cumulated: cumulated.collect() }
    }

    fn pick(&self, uniform: f64) -> usize {
        let sum = self.cumulated.last().copied().unwrap_or_default();
        self.cumulated.partition_point(|bound| *bound < uniform * sum).min(self.cumulated.len().saturating_sub(1))
    }
}
