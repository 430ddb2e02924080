//! `GET /dashboard`: the customers at risk, with what is at stake and why.

use std::collections::HashMap;

use askama::Template;
use axum::{
    extract::{RawQuery, State},
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
};

use super::{
    super::{cursor::List, query::Limit, state::Bridge},
    error::{PART, PageError},
    form::Fields,
    layout::{CUSTOMERS, Frame, Page},
    session::Visitor,
    words::{Badge, Bar, Day, count, money, sum},
};
use crate::{
    engine::{
        checkpoint::{Factor, Level, Status},
        rules::Rules,
    },
    event::{ids::AccountId, money::Money, subject::Token},
    store::{
        customers::{CustomerCursor, CustomerQuery, Found, Levels, ListedCustomer, Order, Statuses},
        keys::KeyKind,
        overview::Snapshot,
        trend::Trend,
    },
};

const CUSTOMERS_A_PAGE: usize = 50;
const MAX_SEARCH_CHARACTERS: usize = 255;

#[derive(Template)]
#[template(path = "dashboard/customers.html")]
struct CustomersPage {
    frame: Frame,
    list: CustomersPart,
}

/// What changes while the page is open.
#[derive(Template)]
#[template(path = "dashboard/customers_part.html")]
struct CustomersPart {
    filters: Filters,
    totals: Totals,
    rows: Vec<Row>,
    truncated: bool,
    is_first: bool,
    next: Option<String>,
    /// What to do in an account without customers.
    welcome: Option<Welcome>,
}

struct Row {
    token: String,
    name: String,
    /// The id, where the name is another.
    id: Option<String>,
    score: u8,
    badge: Badge,
    bar: Bar,
    mrr: String,
    mrr_at_risk: String,
    reason: String,
    /// How many reasons there are besides.
    more: usize,
    since: Option<Day>,
    trend: Change,
}

/// How a score compares with the one before.
enum Change {
    New,
    Steady,
    Up { from: u8, by: u8 },
    Down { from: u8, by: u8 },
}

struct Totals {
    medium_from: u8,
    high_from: u8,
    high: String,
    medium: String,
    low: String,
    churned: String,
    mrr: String,
    at_risk: String,
    /// There is no customer at all.
    none: bool,
}

struct Welcome {
    host: String,
    publishable: String,
}

/// A choice of a filter.
struct Choice {
    value: &'static str,
    text: &'static str,
}

const LEVELS: &[Choice] = &[
    Choice { value: "at_risk", text: "At risk" },
    Choice { value: "high", text: "High" },
    Choice { value: "medium", text: "Medium" },
    Choice { value: "low", text: "Low" },
    Choice { value: "any", text: "Any" },
];
const STATUSES: &[Choice] = &[
    Choice { value: "active", text: "Active" },
    Choice { value: "churned", text: "Churned" },
    Choice { value: "any", text: "Any" },
];
const ORDERS: &[Choice] = &[
    Choice { value: "mrr_at_risk", text: "MRR at risk" },
    Choice { value: "score", text: "Score" },
    Choice { value: "mrr", text: "MRR" },
];

/// What is shown, as the page's address says it; what it says wrongly is as if it were not there.
#[derive(Debug, PartialEq, Eq)]
struct Filters {
    search: String,
    level: &'static str,
    status: &'static str,
    sort: &'static str,
}

impl Filters {
    fn read(query: &Fields) -> Self {
        let among = |choices: &'static [Choice], name, default: &'static str| {
            choices.iter().find(|choice| choice.value == query.get(name)).map_or(default, |choice| choice.value)
        };
        let search: String = query.get("search").chars().take(MAX_SEARCH_CHARACTERS).collect();
        // Who searches for somebody wants to find them whatever their risk.
        let (level, status) = if search.is_empty() { ("at_risk", "active") } else { ("any", "any") };
        Self {
            level: among(LEVELS, "level", level),
            status: among(STATUSES, "status", status),
            sort: among(ORDERS, "sort", "mrr_at_risk"),
            search,
        }
    }

    /// Nothing but the customers at risk is asked for.
    fn is_usual(&self) -> bool {
        self.search.is_empty() && self.level == "at_risk" && self.status == "active"
    }

    /// The page with these filters, from a place on.
    fn path(&self, cursor: Option<&str>) -> String {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        if !self.search.is_empty() {
            query.append_pair("search", &self.search);
        }
        query.append_pair("level", self.level).append_pair("status", self.status).append_pair("sort", self.sort);
        if let Some(cursor) = cursor {
            query.append_pair("cursor", cursor);
        }
        format!("/dashboard?{}", query.finish())
    }

    fn of_store<'a>(&self, found: Option<&'a Found>, after: Option<CustomerCursor>) -> CustomerQuery<'a> {
        CustomerQuery {
            levels: match self.level {
                "high" => Levels::Only(Level::High),
                "medium" => Levels::Only(Level::Medium),
                "low" => Levels::Only(Level::Low),
                "any" => Levels::Any,
                _ => Levels::AtRisk,
            },
            statuses: match self.status {
                "churned" => Statuses::Only(Status::Churned),
                "any" => Statuses::Any,
                _ => Statuses::Only(Status::Active),
            },
            order: match self.sort {
                "score" => Order::Score,
                "mrr" => Order::Mrr,
                _ => Order::MrrAtRisk,
            },
            among: found.map(|found| found.tokens.as_slice()),
            after,
            limit: CUSTOMERS_A_PAGE + 1,
        }
    }

    fn levels(&self) -> &'static [Choice] {
        LEVELS
    }

    fn statuses(&self) -> &'static [Choice] {
        STATUSES
    }

    fn orders(&self) -> &'static [Choice] {
        ORDERS
    }
}

/// `GET /dashboard`
pub(super) async fn customers(
    State(bridge): State<Bridge>,
    visitor: Visitor,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, PageError> {
    let query = Fields::read(query.unwrap_or_default().as_bytes());
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or("localhost:8080");
    let list = CustomersPart::load(&bridge, &visitor.account, &query, host).await?;
    if headers.contains_key(PART) {
        return Ok(Page(list).into_response());
    }
    let frame = Frame::new(&visitor, CUSTOMERS, "Customers at risk");
    Ok(Page(CustomersPage { frame, list }).into_response())
}

impl CustomersPart {
    async fn load(bridge: &Bridge, account: &AccountId, query: &Fields, host: &str) -> Result<Self, PageError> {
        let mut filters = Filters::read(query);
        let now = bridge.store.overview_now(account, bridge.now()).await?;
        // Where no revenue is known, nothing but the score tells who comes first.
        if now.mrr.is_empty() && query.get("sort").is_empty() {
            filters.sort = "score";
        }
        let list = List::new(account, "dashboard", &filters);
        let after = match query.filled("cursor") {
            None => None,
            Some(text) => {
                let place: CustomerCursor = list.read(text)?;
                Token::parse(&place.token).map_err(|_| super::super::cursor::invalid())?;
                Some(place)
            }
        };
        let is_first = after.is_none();
        let found = match filters.search.as_str() {
            "" => None,
            text => Some(bridge.store.find_customers(account, text).await?),
        };
        let rows = bridge.store.list_customers(account, &filters.of_store(found.as_ref(), after)).await?;
        let (rows, next) = list.page(rows, Limit(CUSTOMERS_A_PAGE), ListedCustomer::cursor);
        let tokens: Vec<&str> = rows.iter().map(|row| &*row.token).collect();
        let mut trends = bridge.store.trends(account, &tokens).await?;
        let rules = bridge.desk.rules.borrow().of(account.as_str());
        let totals = Totals::of(&now, &rules);
        let welcome = if totals.none { Some(Welcome::load(bridge, account, host).await?) } else { None };
        Ok(Self {
            next: next.map(|cursor| filters.path(Some(&cursor))),
            filters,
            totals,
            rows: rows.into_iter().map(|row| Row::of(row, &mut trends)).collect(),
            truncated: found.is_some_and(|found| found.truncated),
            is_first,
            welcome,
        })
    }
}

impl Row {
    fn of(row: ListedCustomer, trends: &mut HashMap<String, Trend>) -> Self {
        let trend = trends.remove(&*row.token).unwrap_or_default();
        let weightiest = |factors: &[Factor]| {
            let main = factors.iter().rev().max_by_key(|factor| factor.points);
            main.map_or_else(|| "—".to_owned(), |factor| factor.reason.clone())
        };
        let amount = |amount: Option<Money>| amount.as_ref().map_or_else(|| "—".to_owned(), money);
        Self {
            token: row.token.to_string(),
            id: row.company_name.is_some().then(|| row.customer.as_str().to_owned()),
            mrr: amount(row.mrr),
            mrr_at_risk: amount(row.mrr_at_risk()),
            name: row.company_name.unwrap_or_else(|| row.customer.as_str().to_owned()),
            score: row.score,
            badge: Badge { level: row.level, status: row.status },
            bar: Bar { score: row.score, level: row.level },
            reason: weightiest(&trend.factors),
            more: trend.factors.len().saturating_sub(1),
            since: trend.since.map(Day),
            trend: match trend.previous {
                None => Change::New,
                Some(from) if from < row.score => Change::Up { from, by: row.score - from },
                Some(from) if from > row.score => Change::Down { from, by: from - row.score },
                Some(_) => Change::Steady,
            },
        }
    }

    /// Tells a row that changed from one that did not.
    fn fingerprint(&self) -> String {
        format!("{}|{}|{}|{}", self.score, self.mrr, self.reason, self.badge.status.as_str())
    }
}

impl Totals {
    fn of(now: &Snapshot, rules: &Rules) -> Self {
        let summed = |part: fn(&crate::store::overview::Brought) -> i64| {
            let amounts = now.mrr.iter().map(|(currency, brought)| Money { minor: part(brought), currency: *currency });
            let amounts: Vec<String> = amounts.map(|amount| sum(&amount)).collect();
            if amounts.is_empty() { "—".to_owned() } else { amounts.join(" + ") }
        };
        Self {
            medium_from: rules.medium,
            high_from: rules.high,
            high: count(now.high),
            medium: count(now.medium),
            low: count(now.low),
            churned: count(now.churned),
            mrr: summed(|brought| brought.all),
            at_risk: summed(|brought| brought.at_risk),
            none: now.high + now.medium + now.low + now.churned == 0,
        }
    }
}

impl Welcome {
    async fn load(bridge: &Bridge, account: &AccountId, host: &str) -> Result<Self, PageError> {
        let keys = bridge.store.list_keys(account).await?;
        let newest = keys.iter().rfind(|key| key.kind == KeyKind::Publishable && key.revoked_at.is_none());
        Ok(Self {
            host: bridge.public_url.clone().unwrap_or_else(|| format!("http://{host}")),
            publishable: newest.map_or_else(|| "pk_…".to_owned(), |key| format!("{}…", key.prefix)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filters(query: &str) -> Filters {
        Filters::read(&Fields::read(query.as_bytes()))
    }

    #[test]
    fn an_address_that_says_nothing_or_nonsense_shows_those_at_risk() {
        for query in ["", "level=&sort=x&status=gone&search=+", "nonsense=1"] {
            assert!(filters(query).is_usual(), "{query}");
            assert_eq!(filters(query).sort, "mrr_at_risk");
        }
    }

    #[test]
    fn who_searches_finds_whatever_the_risk_and_the_address_says_it_again() {
        let found = filters("search=a%26b");
        assert_eq!((found.level, found.status), ("any", "any"));
        assert_eq!(found.path(None), "/dashboard?search=a%26b&level=any&status=any&sort=mrr_at_risk");
        let chosen = filters("search=a&level=low&sort=score");
        assert_eq!(filters(chosen.path(None).strip_prefix("/dashboard?").unwrap()), chosen);
    }
}
