//! What Stripe's facts add up to for one customer: subscriptions, invoices, cards, disputes.
//!
//! Each object keeps the maximum of what was said of it under a total order, so facts may come late, twice and in any
//! order. Objects are known by a hash of their id; of each kind the newest few are kept.

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::event::{
    fact::{
        CardFact, Change, DisputeFact, InvoiceFact, InvoiceOutcome, StripeFact, SubscriptionFact, SubscriptionStatus,
    },
    money::Money,
    time::Timestamp,
};

/// How many objects of a kind are kept.
const OBJECTS_KEPT: usize = 32;

/// A subscription. Field order is the order of precedence: the greater value is the newer one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Subscription {
    /// Canceled and expired subscriptions stay so, whatever else is said.
    terminal: bool,
    created: i64,
    change: Change,
    pub(crate) status: SubscriptionStatus,
    cancel_at: Option<i64>,
    ended_at: Option<i64>,
    mrr: Option<Money>,
}

/// An invoice: when each kind of outcome was last said of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Invoice {
    failed_at: Option<i64>,
    voided_at: Option<i64>,
    paid_at: Option<i64>,
}

/// A card. Field order is the order of precedence.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Card {
    created: i64,
    detached: bool,
    expires: Option<i64>,
}

/// A dispute. Field order is the order of precedence: a closed one stays closed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Dispute {
    closed: bool,
    created: i64,
}

/// Everything Stripe said of one customer. Objects are sorted by the hash of their id.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StripeState {
    subscriptions: Vec<(u64, Subscription)>,
    invoices: Vec<(u64, Invoice)>,
    cards: Vec<(u64, Card)>,
    disputes: Vec<(u64, Dispute)>,
    downgraded_at: Option<i64>,
}

impl StripeState {
    /// Joins a fact in.
    pub(crate) fn join_fact(&mut self, fact: &StripeFact) {
        match fact {
            StripeFact::Subscription(fact) => self.join_subscription(fact),
            StripeFact::Invoice(fact) => self.join_invoice(fact),
            StripeFact::Card(fact) => self.join_card(fact),
            StripeFact::Dispute(fact) => self.join_dispute(fact),
        }
    }

    /// Joins all that another state holds in.
    pub(crate) fn join(&mut self, other: &Self) {
        for (id, subscription) in &other.subscriptions {
            join_greater(&mut self.subscriptions, *id, subscription.clone());
        }
        for (id, invoice) in &other.invoices {
            self.invoice(*id).join(invoice);
        }
        for (id, card) in &other.cards {
            join_greater(&mut self.cards, *id, card.clone());
        }
        for (id, dispute) in &other.disputes {
            join_greater(&mut self.disputes, *id, dispute.clone());
        }
        self.downgraded_at = self.downgraded_at.max(other.downgraded_at);
        self.forget_oldest();
    }

    /// Whether it could have come about by joining facts.
    pub(crate) fn is_sound(&self) -> bool {
        fn kept_in_order<T>(objects: &[(u64, T)]) -> bool {
            objects.len() <= OBJECTS_KEPT && objects.is_sorted_by(|(one, _), (next, _)| one < next)
        }
        kept_in_order(&self.subscriptions)
            && kept_in_order(&self.invoices)
            && kept_in_order(&self.cards)
            && kept_in_order(&self.disputes)
    }

    fn join_subscription(&mut self, fact: &SubscriptionFact) {
        let terminal = fact.status.is_terminal();
        let subscription = Subscription {
            terminal,
            created: fact.created.millis(),
            change: fact.change,
            status: fact.status,
            cancel_at: fact.cancel_at.map(Timestamp::millis),
            ended_at: terminal.then(|| fact.ended_at.unwrap_or(fact.created).millis()),
            mrr: fact.mrr,
        };
        join_greater(&mut self.subscriptions, hash(&fact.id), subscription);
        if fact.downgraded {
            self.downgraded_at = self.downgraded_at.max(Some(fact.created.millis()));
        }
        self.forget_oldest();
    }

    fn join_invoice(&mut self, fact: &InvoiceFact) {
        let at = Some(fact.created.millis());
        let invoice = match fact.outcome {
            InvoiceOutcome::Failed => Invoice { failed_at: at, ..Invoice::default() },
            InvoiceOutcome::Voided => Invoice { voided_at: at, ..Invoice::default() },
            InvoiceOutcome::Paid => Invoice { paid_at: at, ..Invoice::default() },
        };
        self.invoice(hash(&fact.id)).join(&invoice);
        self.forget_oldest();
    }

    fn join_card(&mut self, fact: &CardFact) {
        let card = Card {
            created: fact.created.millis(),
            detached: !fact.attached,
            expires: fact.expires.map(Timestamp::millis),
        };
        join_greater(&mut self.cards, hash(&fact.id), card);
        self.forget_oldest();
    }

    fn join_dispute(&mut self, fact: &DisputeFact) {
        let dispute = Dispute { closed: !fact.open, created: fact.created.millis() };
        join_greater(&mut self.disputes, hash(&fact.id), dispute);
        self.forget_oldest();
    }

    fn invoice(&mut self, id: u64) -> &mut Invoice {
        let place = match self.invoices.binary_search_by_key(&id, |(id, _)| *id) {
            Ok(place) => place,
            Err(place) => {
                self.invoices.insert(place, (id, Invoice::default()));
                place
            }
        };
        &mut self.invoices[place].1
    }

    fn forget_oldest(&mut self) {
        forget_least(&mut self.subscriptions, |subscription| (!subscription.terminal, subscription.created));
        forget_least(&mut self.invoices, Invoice::newest);
        forget_least(&mut self.cards, |card| card.created);
        forget_least(&mut self.disputes, |dispute| (!dispute.closed, dispute.created));
    }

    /// Its last subscription ended: one was canceled and none is left.
    pub(crate) fn is_churned(&self) -> bool {
        let mut canceled = false;
        for (_, subscription) in &self.subscriptions {
            if subscription.status.is_live() {
                return false;
            }
            canceled |= subscription.status == SubscriptionStatus::Canceled;
        }
        canceled
    }

    /// What the customer brings a month; of several currencies the greatest sum. Of a churned customer, what it brought last.
    pub(crate) fn mrr(&self) -> Option<Money> {
        let ended = |subscription: &Subscription| {
            subscription.ended_at.filter(|_| subscription.status == SubscriptionStatus::Canceled)
        };
        let last_end = self.subscriptions.iter().filter_map(|(_, subscription)| ended(subscription)).max();
        let churned = self.is_churned();
        let mut sums: Vec<Money> = Vec::new();
        for (_, subscription) in &self.subscriptions {
            let counts = subscription.status.is_live() || (churned && ended(subscription) == last_end);
            let Some(mrr) = subscription.mrr.filter(|_| counts) else { continue };
            match sums.iter_mut().find(|sum| sum.currency == mrr.currency) {
                Some(sum) => sum.minor = sum.minor.saturating_add(mrr.minor),
                None => sums.push(mrr),
            }
        }
        sums.into_iter().max()
    }

    /// When the soonest of the living subscriptions is going to end by itself.
    pub(crate) fn cancellation(&self) -> Option<Timestamp> {
        self.live().filter_map(|subscription| subscription.cancel_at).min().map(Timestamp::from_millis)
    }

    /// Some subscription has one of `statuses`.
    pub(crate) fn status_among(&self, statuses: &[SubscriptionStatus]) -> Option<SubscriptionStatus> {
        self.subscriptions
            .iter()
            .map(|(_, subscription)| subscription.status)
            .filter(|status| statuses.contains(status))
            .max()
    }

    /// Some dispute is not decided.
    pub(crate) fn has_open_dispute(&self) -> bool {
        self.disputes.iter().any(|(_, dispute)| !dispute.closed)
    }

    /// When a subscription last became cheaper.
    pub(crate) fn downgraded_at(&self) -> Option<Timestamp> {
        self.downgraded_at.map(Timestamp::from_millis)
    }

    /// When the card that lasts longest expires; `None` without cards or where one has no end.
    pub(crate) fn last_card_expires(&self) -> Option<Timestamp> {
        let mut last = None;
        for (_, card) in self.cards.iter().filter(|(_, card)| !card.detached) {
            last = last.max(Some(card.expires?));
        }
        last.map(Timestamp::from_millis)
    }

    /// When an invoice that is still owed last failed.
    pub(crate) fn last_open_failure(&self) -> Option<Timestamp> {
        self.invoices.iter().filter_map(|(_, invoice)| invoice.open_failure()).max().map(Timestamp::from_millis)
    }

    /// When an invoice was last paid.
    pub(crate) fn last_paid(&self) -> Option<Timestamp> {
        self.invoices.iter().filter_map(|(_, invoice)| invoice.paid_at).max().map(Timestamp::from_millis)
    }

    fn live(&self) -> impl Iterator<Item = &Subscription> {
        self.subscriptions
            .iter()
            .map(|(_, subscription)| subscription)
            .filter(|subscription| subscription.status.is_live())
    }
}

impl Invoice {
    fn join(&mut self, other: &Self) {
        self.failed_at = self.failed_at.max(other.failed_at);
        self.voided_at = self.voided_at.max(other.voided_at);
        self.paid_at = self.paid_at.max(other.paid_at);
    }

    fn newest(&self) -> Option<i64> {
        self.failed_at.max(self.voided_at).max(self.paid_at)
    }

    fn open_failure(&self) -> Option<i64> {
        self.failed_at.filter(|failed| self.voided_at.max(self.paid_at).is_none_or(|settled| settled < *failed))
    }
}

fn hash(id: &str) -> u64 {
    xxh3_64(id.as_bytes())
}

fn join_greater<T: Ord>(objects: &mut Vec<(u64, T)>, id: u64, said: T) {
    match objects.binary_search_by_key(&id, |(id, _)| *id) {
        Ok(place) if objects[place].1 < said => objects[place].1 = said,
        Ok(_) => {}
        Err(place) => objects.insert(place, (id, said)),
    }
}

fn forget_least<T, K: Ord>(objects: &mut Vec<(u64, T)>, rank: impl Fn(&T) -> K) {
    if objects.len() > OBJECTS_KEPT {
        let least =
            objects.iter().enumerate().min_by_key(|(_, (id, object))| (rank(object), *id)).map(|(place, _)| place);
        objects.remove(least.expect("there are more than 32"));
    }
}
