//! A customer's state: what is kept of its events.
//!
//! Apart from what was announced (`AlertMemory`) and last evaluated, a state is a function of the *set* of the
//! customer's events: maxima of times, counts per bucket, joined facts. Order and repetition do not matter.

use xxhash_rust::xxh3::xxh3_64;

use super::{
    alert::AlertMemory,
    checkpoint::{Level, Status},
    names::{EventName, Name, Names, PAYMENT_FAILED, PAYMENT_SUCCEEDED},
    recent_ids::RecentIds,
    rules::{Meaning, Rules},
    stripe::StripeState,
    usage::{Counted, DAYS_KEPT, Usage},
};
use crate::event::{
    decode::Event,
    fact::StripeFact,
    ids::{CustomerId, IdHash},
    money::Money,
    sentiment::Sentiment,
    time::Timestamp,
};

/// How many links, and how many transfers, are remembered.
pub(crate) const LINKS_KEPT: usize = 256;

/// What is kept of one customer.
#[derive(Clone, Debug, PartialEq)]
pub struct CustomerState {
    pub(crate) first_seen: Timestamp,
    /// The time of the newest event.
    pub(crate) newest: Timestamp,
    pub(crate) names: Names,
    pub(crate) usage: Usage,
    pub(crate) ids: RecentIds,
    pub(crate) support: Option<Support>,
    pub(crate) stripe: Option<Box<StripeState>>,
    /// Hashes of the Stripe customers that were linked to this one, ascending.
    pub(crate) linked: Vec<u64>,
    /// Hashes of the transfers that were joined in, ascending: each counts once.
    pub(crate) transfers: Vec<u64>,
    /// Set where this was a Stripe id that was linked: nothing else is kept then.
    pub(crate) moved_to: Option<Box<Signpost>>,
    pub(crate) alerts: AlertMemory,
    pub(crate) evaluated: Option<Evaluation>,
    /// History was imported that no evaluation has seen yet.
    pub(crate) unsettled: bool,
}

/// The newest support interaction whose sentiment is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Support {
    pub(crate) at: Timestamp,
    pub(crate) sentiment: Sentiment,
}

/// Where a linked Stripe customer's events belong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Signpost {
    pub(crate) to: CustomerId,
    pub(crate) at: Timestamp,
}

/// What the last evaluation found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Evaluation {
    pub(crate) score: u8,
    pub(crate) level: Level,
    pub(crate) status: Status,
    /// A bit for each active factor of the rules.
    pub(crate) active: u64,
    /// [`Rules::hash`] of the rules it was made by.
    pub(crate) rules: u64,
}

/// What became of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// It changed the state.
    Applied,
    /// It repeats one of the customer's newest events and changed nothing.
    Duplicate,
    /// It is older than everything that is still counted: only maxima took notice.
    Late,
}

/// What an event did to a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) applied: Applied,
    /// Nothing but the amount of usage changed of what factors look at.
    pub(crate) usage_alone: bool,
}

impl CustomerState {
    /// The state of a customer whose first event happened at `at`, before that event is applied.
    pub fn new(at: Timestamp) -> Self {
        Self {
            first_seen: at,
            newest: at,
            names: Names::default(),
            usage: Usage::default(),
            ids: RecentIds::default(),
            support: None,
            stripe: None,
            linked: Vec::new(),
            transfers: Vec::new(),
            moved_to: None,
            alerts: AlertMemory::default(),
            evaluated: None,
            unsettled: false,
        }
    }

    /// The state less what depends on when it was looked at: what was told, and what the last evaluation found.
    #[must_use]
    pub fn timeless(mut self) -> Self {
        (self.alerts, self.evaluated, self.unsettled) = (AlertMemory::default(), None, false);
        self
    }

    /// The time of the newest event: a score before it cannot be told.
    pub fn newest(&self) -> Timestamp {
        self.newest
    }

    /// Applies an event that happened at `at`.
    pub fn apply(&mut self, event: &Event<'_>, at: Timestamp, rules: &Rules) -> Applied {
        self.change(event, at, rules).applied
    }

    /// Applies an event that happened at `at`, and tells what that can have changed.
    pub(crate) fn change(&mut self, event: &Event<'_>, at: Timestamp, rules: &Rules) -> Change {
        if !self.note_id(event.id.as_deref(), at) {
            return Change { applied: Applied::Duplicate, usage_alone: true };
        }
        let name = EventName::of(&event.name);
        let meaning = rules.meaning(name);
        let usage_alone = !event.has_facts() && !meaning.is_named && !meaning.is_support && at >= self.first_seen;
        self.first_seen = self.first_seen.min(at);
        self.newest = self.newest.max(at);
        let facts = event.facts();
        self.apply_facts(&facts);
        // An invoice speaks for itself: whether its failure still counts is known to its facts alone.
        let told_by_invoice = matches!(name.code, Some(PAYMENT_FAILED | PAYMENT_SUCCEEDED))
            && facts.iter().any(|fact| matches!(fact, StripeFact::Invoice(_)));
        if !told_by_invoice {
            self.names.see(name, at, |name| rules.names(name));
        }
        let mut late = facts.is_empty() && at.day() <= self.newest.day() - DAYS_KEPT;
        if meaning.is_usage {
            late |= self.usage.add(at, 1, self.newest) == Counted::TooOld;
        } else {
            self.usage.advance_newest(self.newest);
        }
        self.apply_support(event, at, meaning);
        Change { applied: if late { Applied::Late } else { Applied::Applied }, usage_alone }
    }

    fn apply_support(&mut self, event: &Event<'_>, at: Timestamp, meaning: Meaning) {
        if meaning.is_support
            && let Some(sentiment) = event.sentiment()
        {
            self.join_support(Support { at, sentiment });
        }
    }

    fn apply_facts(&mut self, facts: &[StripeFact]) {
        for fact in facts {
            self.stripe.get_or_insert_default().join_fact(fact);
        }
    }

    /// The newest counts; of two at the same instant the worse one.
    fn join_support(&mut self, support: Support) {
        let newer = |held: Support| (support.at, held.sentiment) > (held.at, support.sentiment);
        if self.support.is_none_or(newer) {
            self.support = Some(support);
        }
    }

    /// Joins the state of a linked Stripe customer in, once for each `transfer`.
    pub(crate) fn join(&mut self, other: &Self, transfer: u64, rules: &Rules) -> Applied {
        let Err(place) = self.transfers.binary_search(&transfer) else { return Applied::Duplicate };
        if self.transfers.len() >= LINKS_KEPT {
            return Applied::Late;
        }
        self.transfers.insert(place, transfer);
        self.first_seen = self.first_seen.min(other.first_seen);
        self.newest = self.newest.max(other.newest);
        for (name, at) in other.names.iter() {
            self.names.see(name.as_event(), *at, |name| rules.names(name));
        }
        self.usage.advance_newest(self.newest);
        for hour in other.usage.hours() {
            self.usage.add(Timestamp::start_of_hour(i64::from(hour.index)), hour.count, self.newest);
        }
        for day in other.usage.older_days() {
            self.usage.add(Timestamp::start_of_day(i64::from(day.index)), day.count, self.newest);
        }
        for id in other.ids.iter() {
            if self.ids.iter().all(|held| held.id != id.id) {
                self.ids.keep(*id);
            }
        }
        if let Some(support) = other.support {
            self.join_support(support);
        }
        if let Some(stripe) = &other.stripe {
            self.stripe.get_or_insert_default().join(stripe);
        }
        Applied::Applied
    }

    /// Leaves only a signpost to `to`, unless a newer one stands. Gives back what was kept so far, if there was anything.
    pub(crate) fn move_to(&mut self, to: CustomerId, at: Timestamp) -> Option<Self> {
        let signpost = Signpost { to, at };
        if let Some(held) = &mut self.moved_to {
            if (held.at, held.to.as_str()) < (signpost.at, signpost.to.as_str()) {
                **held = signpost;
            }
            return None;
        }
        let mut left = Self::new(at);
        left.moved_to = Some(Box::new(signpost));
        left.ids = self.ids.clone();
        Some(std::mem::replace(self, left))
    }

    /// Notes that a Stripe customer was linked to this one; `false` if that is known already. Beyond [`LINKS_KEPT`] a link is
    /// not remembered: making it again is harmless.
    pub(crate) fn note_link(&mut self, stripe_customer: &str) -> bool {
        let hash = xxh3_64(stripe_customer.as_bytes());
        match self.linked.binary_search(&hash) {
            Ok(_) => false,
            Err(place) => {
                if self.linked.len() < LINKS_KEPT {
                    self.linked.insert(place, hash);
                }
                true
            }
        }
    }

    /// Notes an event's id, if it has one; `false` if it is a repeat.
    pub(crate) fn note_id(&mut self, id: Option<&str>, at: Timestamp) -> bool {
        id.is_none_or(|id| self.ids.insert(IdHash::of(id), at))
    }

    /// Where the customer's events belong if not here.
    pub fn moved_to(&self) -> Option<&CustomerId> {
        self.moved_to.as_ref().map(|signpost| &signpost.to)
    }

    /// When an event of this name was last seen, Stripe's invoices included.
    pub(crate) fn last(&self, name: &Name) -> Option<Timestamp> {
        let from_stripe = match (name, &self.stripe) {
            (Name::Common(PAYMENT_FAILED), Some(stripe)) => stripe.last_open_failure(),
            (Name::Common(PAYMENT_SUCCEEDED), Some(stripe)) => stripe.last_paid(),
            _ => None,
        };
        self.names.last(name).max(from_stripe)
    }

    /// Where the customer stands in its life.
    pub fn status(&self) -> Status {
        if self.moved_to.is_some() {
            Status::Moved
        } else if self.stripe.as_ref().is_some_and(|stripe| stripe.is_churned()) {
            Status::Churned
        } else {
            Status::Active
        }
    }

    /// Receivers know another level than the last evaluation found: it was kept back.
    pub(crate) fn is_untold(&self) -> bool {
        let differs = |last: Evaluation| last.status == Status::Active && last.level != self.alerts.level;
        self.alerts.held.is_some() || (!self.alerts.churned && self.evaluated.is_some_and(differs))
    }

    /// What the customer brings a month, as far as Stripe said.
    pub fn mrr(&self) -> Option<Money> {
        self.stripe.as_ref().and_then(|stripe| stripe.mrr())
    }
}
