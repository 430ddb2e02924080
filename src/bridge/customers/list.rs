//! `GET /api/customers`: customers by their risk, or by the money that is at risk.

use axum::{Json, extract::State};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::super::{
    access::Reader,
    cursor::{self, List},
    error::{ApiError, RefusedList},
    query::{Checked, Limit, ShortText},
    state::Bridge,
};
use crate::{
    engine::checkpoint::{Level, Status},
    event::{
        ids::{AccountId, CustomerId},
        money::Money,
        subject::Token,
        time::Timestamp,
    },
    store::{
        customers::{CustomerCursor, CustomerQuery, Found, Levels, ListedCustomer, Order, Statuses},
        queries::LevelSummary,
    },
};

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListQuery {
    /// Which levels; `at_risk` is medium and high. Without it `at_risk`, and with `search` `any`.
    #[param(inline, value_type = LevelFilter, required = false)]
    level: Option<LevelFilter>,
    /// Which statuses. Without it `active`, and with `search` `any`.
    #[param(inline, value_type = StatusFilter, required = false)]
    status: Option<StatusFilter>,
    /// Only customers whose id, or whose company's name in whatever case, begins with this.
    #[param(value_type = String, min_length = 1, max_length = 255, required = false)]
    search: Option<ShortText>,
    /// What comes first: the highest `score`; the most `mrr`; or the most `mrr_at_risk`, which is MRR × score ÷ 100. Amounts
    /// are compared as they stand, whatever their currency; customers without any come last.
    #[serde(default)]
    #[param(inline, required = false)]
    sort: Sort,
    /// The most customers of a page.
    #[serde(default)]
    #[param(value_type = u16, minimum = 1, maximum = 200, default = 50, required = false)]
    limit: Limit,
    /// `nextCursor` of the page before, with the same other parameters.
    #[param(value_type = String, required = false)]
    cursor: Option<String>,
}

#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum LevelFilter {
    AtRisk,
    High,
    Medium,
    Low,
    Any,
}

#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum StatusFilter {
    Active,
    Churned,
    Any,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Sort {
    #[default]
    Score,
    Mrr,
    MrrAtRisk,
}

/// A page of customers.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct CustomerPage {
    /// The customers in the order asked for. One whose score changes between two pages may be seen twice or not at all.
    customers: Vec<CustomerEntry>,
    /// Active customers of the account by level, whatever the filters; on the first page only.
    totals: Option<Vec<LevelTotal>>,
    /// The search matches more customers than were looked at (1,000): search for more letters.
    truncated: bool,
    /// Where the next page begins; null on the last.
    next_cursor: Option<String>,
}

/// A customer in a list.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct CustomerEntry {
    /// The customer's id.
    customer_id: CustomerId,
    /// Its company, where contacts are stored.
    company_name: Option<String>,
    /// 0 safe, 100 at risk.
    #[schema(maximum = 100)]
    score: u8,
    /// The score's level.
    level: Level,
    /// Where it stands in its life.
    status: Status,
    /// What it brings a month.
    mrr: Option<Money>,
    /// What it brings a month × its score ÷ 100.
    mrr_at_risk: Option<Money>,
    /// When its score changes next if nothing happens.
    changes_at: Option<Timestamp>,
    /// When it was last evaluated.
    updated_at: Timestamp,
}

/// How many customers have a level, and what they bring.
#[derive(Debug, Serialize, ToSchema)]
struct LevelTotal {
    /// The level.
    level: Level,
    /// How many active customers.
    customers: u64,
    /// What they bring a month, an amount for each currency.
    mrr: Vec<Money>,
}

/// Customers by risk
///
/// Those at risk first, page by page, with what is at stake.
#[utoipa::path(
    get, path = "/api/customers", tag = "Customers",
    params(ListQuery),
    responses((status = OK, description = "A page of customers", body = CustomerPage), RefusedList),
    security(("secretKey" = [])),
)]
pub(super) async fn customers(
    State(bridge): State<Bridge>,
    Reader(grant): Reader,
    Checked(query): Checked<ListQuery>,
) -> Result<Json<CustomerPage>, ApiError> {
    let account = grant.account();
    let list = query.list(account);
    let after = query.cursor.as_deref().map(|text| place_of(list, text)).transpose()?;
    let is_first = after.is_none();
    let found = match &query.search {
        Some(ShortText(text)) => Some(bridge.store.find_customers(account, text).await?),
        None => None,
    };
    let rows = bridge.store.list_customers(account, &query.of_store(found.as_ref(), after)).await?;
    let (rows, next_cursor) = list.page(rows, query.limit, ListedCustomer::cursor);
    let totals = if is_first { Some(bridge.store.level_summary(account).await?) } else { None };
    Ok(Json(CustomerPage {
        customers: rows.into_iter().map(CustomerEntry::of).collect(),
        totals: totals.map(|totals| totals.into_iter().map(LevelTotal::of).collect()),
        truncated: found.is_some_and(|found| found.truncated),
        next_cursor,
    }))
}

fn place_of(list: List, text: &str) -> Result<CustomerCursor, ApiError> {
    let place: CustomerCursor = list.read(text)?;
    Token::parse(&place.token).map_err(|_| cursor::invalid())?;
    Ok(place)
}

impl ListQuery {
    fn list(&self, account: &AccountId) -> List {
        List::new(account, "customers", &(self.level, self.status, &self.search, self.sort))
    }

    fn of_store<'a>(&self, found: Option<&'a Found>, after: Option<CustomerCursor>) -> CustomerQuery<'a> {
        let (level, status) = match found {
            Some(_) => (LevelFilter::Any, StatusFilter::Any),
            None => (LevelFilter::AtRisk, StatusFilter::Active),
        };
        CustomerQuery {
            levels: match self.level.unwrap_or(level) {
                LevelFilter::Any => Levels::Any,
                LevelFilter::AtRisk => Levels::AtRisk,
                LevelFilter::High => Levels::Only(Level::High),
                LevelFilter::Medium => Levels::Only(Level::Medium),
                LevelFilter::Low => Levels::Only(Level::Low),
            },
            statuses: match self.status.unwrap_or(status) {
                StatusFilter::Any => Statuses::Any,
                StatusFilter::Active => Statuses::Only(Status::Active),
                StatusFilter::Churned => Statuses::Only(Status::Churned),
            },
            order: match self.sort {
                Sort::Score => Order::Score,
                Sort::Mrr => Order::Mrr,
                Sort::MrrAtRisk => Order::MrrAtRisk,
            },
            among: found.map(|found| found.tokens.as_slice()),
            after,
            limit: self.limit.0 + 1,
        }
    }
}

impl CustomerEntry {
    fn of(row: ListedCustomer) -> Self {
        Self {
            mrr_at_risk: row.mrr_at_risk(),
            customer_id: row.customer,
            company_name: row.company_name,
            score: row.score,
            level: row.level,
            status: row.status,
            mrr: row.mrr,
            changes_at: row.due_at,
            updated_at: row.updated_at,
        }
    }
}

impl LevelTotal {
    fn of(summary: LevelSummary) -> Self {
        let mrr = summary.mrr.into_iter().map(|(currency, minor)| Money { minor, currency });
        Self { level: summary.level, customers: summary.customers, mrr: mrr.collect() }
    }
}
