//! What the customers do now: usage every moment, and a story of things that matter, each told as it happens.

use std::time::Duration;

use anyhow::Context as _;
use serde_json::{Value, json};
use tokio::time::{MissedTickBehavior, interval};

use super::{
    Live,
    cast::{self, CEDAR, COPPER, Customer, HARBOR, Habit, NORTHWIND, TIDAL},
    history::{FEATURES, MINUTE},
    random::Random,
    stripe::Stripe,
};
use crate::{
    cli::{connect, output},
    config::Config,
    event::{
        ids::{AccountId, CustomerId},
        subject::{encode, event_subject, webhook_subject},
        time::Timestamp,
    },
    service::clock::Clock,
    stream::publisher::{DEFAULT_WINDOW, Outgoing, Publisher},
};

/// One step of the story every so many moments.
const STEP_EVERY: u64 = 4;
const MOMENT: Duration = Duration::from_millis(700);
const DAY: i64 = 24 * 60 * MINUTE;

/// Something that matters.
#[derive(Clone, Copy)]
enum Step {
    BillingPage(&'static str),
    PaymentFails(&'static str),
    WantsToLeave(&'static str),
    Disputes(&'static str),
    Ends(&'static str),
    Pays(&'static str),
}

const STORY: [Step; 6] = [
    Step::BillingPage(CEDAR),
    Step::PaymentFails(HARBOR),
    Step::WantsToLeave(NORTHWIND),
    Step::Disputes(COPPER),
    Step::Ends(TIDAL),
    Step::Pays(HARBOR),
];

/// Publishes everybody's subscription and last payment, as Stripe would have told them.
pub(super) async fn bill(options: Live) -> anyhow::Result<()> {
    let company = Company::open(&options, options.settings.load()?).await?;
    let now = company.clock.now();
    let mut stripe = Stripe::new(now);
    let mut webhooks = Vec::new();
    for customer in &company.customers {
        let (began, charged) = (now.plus_millis(-options.scale.days * DAY), now.plus_millis(-20 * DAY));
        webhooks.push(stripe.subscribed(customer, began));
        webhooks.push(stripe.charged(customer, charged));
    }
    let subject = webhook_subject(&company.account);
    let messages = webhooks.iter().map(|body| of_webhook(&subject, body));
    let published = webhooks.len() as u64;
    for result in company.publisher.publish_all(messages).await {
        result.context("cannot publish a webhook")?;
    }
    Ok(output::line(format!("published {}", output::counted(published, "Stripe webhook")))?)
}

/// Publishes until it is stopped.
pub(super) async fn go_on(options: Live) -> anyhow::Result<()> {
    let mut company = Company::open(&options, options.settings.load()?).await?;
    let mut stripe = Stripe::new(company.clock.now());
    let mut story = STORY.iter();
    let mut moments = interval(MOMENT);
    moments.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for moment in 0_u64.. {
        moments.tick().await;
        company.use_the_product().await?;
        if moment % STEP_EVERY != STEP_EVERY - 1 {
            continue;
        }
        match story.next() {
            Some(step) => company.take(*step, &mut stripe).await?,
            None if moment % (8 * STEP_EVERY) == STEP_EVERY - 1 => company.have_bad_luck(&mut stripe).await?,
            None => {}
        }
    }
    Ok(())
}

/// The company, and the way to tell churnd of it.
struct Company {
    account: AccountId,
    customers: Vec<Customer>,
    publisher: Publisher,
    clock: Clock,
    random: Random,
}

impl Company {
    async fn open(options: &Live, config: Config) -> anyhow::Result<Self> {
        let publisher = Publisher::new(connect::nats(&config, "demo").await?, DEFAULT_WINDOW);
        let clock = Clock::system();
        let random = Random::new(clock.now().millis().unsigned_abs());
        Ok(Self { account: options.account.clone(), customers: cast::cast(&options.scale), publisher, clock, random })
    }

    /// Some healthy customers do something.
    async fn use_the_product(&mut self) -> anyhow::Result<()> {
        for _ in 0..6 {
            let customer = self.random.pick(&self.customers).clone();
            if matches!(customer.habit, Habit::Daily | Habit::Weekly) {
                let event = if self.random.percent(20) { "login" } else { *self.random.pick(&FEATURES) };
                self.track(&customer.id, event, Value::Null).await?;
            }
        }
        Ok(())
    }

    async fn take(&mut self, step: Step, stripe: &mut Stripe) -> anyhow::Result<()> {
        let now = self.clock.now();
        let (name, said) = match step {
            Step::BillingPage(name) => (name, "silent for weeks, now looks at the billing page"),
            Step::PaymentFails(name) => (name, "Stripe: its payment fails"),
            Step::WantsToLeave(name) => (name, "Stripe: it cancels at the end of the month"),
            Step::Disputes(name) => (name, "Stripe: its bank takes the last payment back"),
            Step::Ends(name) => (name, "Stripe: its subscription ends"),
            Step::Pays(name) => (name, "Stripe: the second try to pay succeeds"),
        };
        self.tell(now, name, said)?;
        let customer = self.customer(name)?;
        let body = match step {
            Step::BillingPage(_) => return self.track(name, "billing_page_view", Value::Null).await,
            Step::PaymentFails(_) => stripe.invoice(&customer, now, false),
            Step::WantsToLeave(_) => stripe.cancellation_scheduled(&customer, now),
            Step::Disputes(_) => stripe.disputed(&customer, now),
            Step::Ends(_) => stripe.ended(&customer, now),
            Step::Pays(_) => stripe.invoice(&customer, now, true),
        };
        self.webhook(&body).await
    }

    /// After the story: somebody's payment fails.
    async fn have_bad_luck(&mut self, stripe: &mut Stripe) -> anyhow::Result<()> {
        let customer = self.random.pick(&self.customers).clone();
        let now = self.clock.now();
        self.tell(now, &customer.id, "Stripe: its payment fails")?;
        let body = stripe.invoice(&customer, now, false);
        self.webhook(&body).await
    }

    fn customer(&self, name: &str) -> anyhow::Result<Customer> {
        self.customers.iter().find(|customer| customer.id == name).cloned().context("the story has a stranger in it")
    }

    fn tell(&self, at: Timestamp, name: &str, what: &str) -> Result<(), output::NotPrinted> {
        output::line(format!("{}    {name}: {what}", output::to_the_second(at)))
    }

    async fn track(&self, customer: &str, event: &str, properties: Value) -> anyhow::Result<()> {
        let customer = CustomerId::parse(customer).context("a name that is made up is too long")?;
        let mut body = json!({ "event": event, "id": uuid::Uuid::new_v4(), "customerId": customer });
        if properties.is_object() {
            body["properties"] = properties;
        }
        let subject = event_subject(&self.account, &encode(&customer));
        self.publish(Outgoing::new(subject, body.to_string())).await
    }

    async fn webhook(&self, body: &Value) -> anyhow::Result<()> {
        self.publish(of_webhook(&webhook_subject(&self.account), body)).await
    }

    async fn publish(&self, message: Outgoing) -> anyhow::Result<()> {
        self.publisher.publish(message).await.context("cannot publish")?;
        Ok(())
    }
}

/// The message that the HTTP bridge makes of a webhook once it has checked the signature.
fn of_webhook(subject: &str, body: &Value) -> Outgoing {
    let id = body["id"].as_str().unwrap_or_default();
    Outgoing::new(subject.to_owned(), body.to_string()).with_id(format!("stripe:{id}"))
}
