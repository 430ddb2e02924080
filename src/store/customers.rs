//! Lists of customers: filtered, ranked, page by page; who they are besides their states.
//!
//! Those at risk come from an index by score, by money or by money at risk, so a page costs what it holds. Lists that
//! include everybody, and those of a search, are sorted by the server.

use std::collections::{BTreeSet, HashSet};

use deadpool_postgres::tokio_postgres::types::ToSql;

use super::{
    Store,
    error::StoreError,
    tx::Tx,
    values::{PgText, PgTime, RowReader, row_limit},
};
use crate::{
    engine::checkpoint::{Level, Status},
    event::{
        contact::Contact,
        ids::{AccountId, CustomerId},
        money::Money,
        subject,
        time::Timestamp,
    },
};

/// How many customers a search looks at.
pub const MAX_FOUND: usize = 1_000;

/// How customers are listed. Amounts are compared as they stand, whatever their currency; who brings none comes last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// The highest score first.
    Score,
    /// The most money first.
    Mrr,
    /// The most money times score first.
    MrrAtRisk,
}

/// Which levels are listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Levels {
    /// All.
    Any,
    /// Medium and high.
    AtRisk,
    /// One.
    Only(Level),
}

/// Which statuses are listed; signposts never are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Statuses {
    /// Active and churned ones.
    Any,
    /// One.
    Only(Status),
}

/// Which customers to list.
#[derive(Clone, Debug)]
pub struct CustomerQuery<'a> {
    /// Of which levels.
    pub levels: Levels,
    /// Of which statuses.
    pub statuses: Statuses,
    /// In which order.
    pub order: Order,
    /// Only these customers, by their tokens.
    pub among: Option<&'a [String]>,
    /// Goes on after this one.
    pub after: Option<CustomerCursor>,
    /// How many at the most.
    pub limit: usize,
}

/// A place in a list of customers.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct CustomerCursor {
    /// The last one's rank in the list's order; -1 for who brings no money.
    pub rank: i64,
    /// The last one's token.
    pub token: String,
}

/// A customer in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedCustomer {
    /// The customer's full id.
    pub customer: CustomerId,
    /// The customer's subject token.
    pub token: Box<str>,
    /// 0 to 100.
    pub score: u8,
    /// The score's level.
    pub level: Level,
    /// Where it stands in its life.
    pub status: Status,
    /// What it brings a month.
    pub mrr: Option<Money>,
    /// When it will be evaluated again.
    pub due_at: Option<Timestamp>,
    /// When it was last written.
    pub updated_at: Timestamp,
    /// Its company, where contacts are stored.
    pub company_name: Option<String>,
    /// What the list's order goes by.
    pub rank: i64,
}

/// The customers that a search found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Their tokens.
    pub tokens: Vec<String>,
    /// There are more than [`MAX_FOUND`].
    pub truncated: bool,
}

/// Who a customer is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Profile {
    /// Its company and address, where contacts are stored.
    pub contact: Contact,
    /// When that was said.
    pub contact_at: Option<Timestamp>,
    /// What it brings a month.
    pub mrr: Option<Money>,
    /// When it was first stored.
    pub created_at: Timestamp,
    /// When what stands here last changed.
    pub updated_at: Timestamp,
}

/// A customer's contact, as somebody said it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContactRow {
    /// The tenant.
    pub account: AccountId,
    /// The customer.
    pub customer: CustomerId,
    /// What was said.
    pub contact: Contact,
    /// When.
    pub at: Timestamp,
}

/// All that begin with `$2` stand before `$2` with the last character there is, repeated: no id is as long as that.
const FIND: &str = "
    (SELECT external_id FROM customers
     WHERE account_id = $1 AND external_id >= $2 AND external_id < $2 || repeat(U&'\\+10FFFF', 64)
     ORDER BY external_id LIMIT $3)
    UNION
    (SELECT external_id FROM customers
     WHERE account_id = $1 AND company_key IS NOT NULL AND company_key >= lower($4) COLLATE \"C\"
       AND company_key < (lower($4) || repeat(U&'\\+10FFFF', 64)) COLLATE \"C\"
     ORDER BY company_key LIMIT $3)";
const PROFILE: &str = "SELECT id, account_id, company_name, email, contact_at, mrr, currency, created_at, updated_at
    FROM customers WHERE account_id = $1 AND external_id = $2";
/// The later contact counts; a part that it does not tell stays.
const KEEP_CONTACTS: &str = "
    INSERT INTO customers AS c (account_id, external_id, company_name, email, contact_at)
    SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::timestamptz[])
    ON CONFLICT (account_id, external_id) DO UPDATE SET
        company_name = coalesce(excluded.company_name, c.company_name), email = coalesce(excluded.email, c.email),
        contact_at = excluded.contact_at, updated_at = now()
    WHERE c.contact_at IS NULL OR c.contact_at <= excluded.contact_at";

impl CustomerQuery<'_> {
    /// Those at risk, the highest score first.
    pub fn at_risk(limit: usize) -> Self {
        Self {
            levels: Levels::AtRisk,
            statuses: Statuses::Only(Status::Active),
            order: Order::Score,
            among: None,
            after: None,
            limit,
        }
    }

    /// The query's text: of a small number of forms, each with a partial index in view.
    fn sql(&self) -> String {
        let level = match self.levels {
            Levels::Any => "true",
            Levels::AtRisk => "s.level <> 'low'",
            Levels::Only(Level::Low) => "s.level = 'low'",
            Levels::Only(Level::Medium) => "s.level <> 'low' AND s.level = 'medium'",
            Levels::Only(Level::High) => "s.level <> 'low' AND s.level = 'high'",
        };
        let status = match self.statuses {
            Statuses::Any => "s.status <> 'moved'",
            Statuses::Only(Status::Active) => "s.status = 'active'",
            Statuses::Only(Status::Churned) => "s.status = 'churned'",
            Statuses::Only(Status::Moved) => "false",
        };
        let rank = match self.order {
            Order::Score => "s.score",
            Order::Mrr => "coalesce(s.mrr_minor, -1)",
            Order::MrrAtRisk => {
                "CASE WHEN s.mrr_minor IS NULL THEN -1
                    ELSE least(greatest(s.mrr_minor, 0), 90000000000000000) * s.score END"
            }
        };
        let after = match self.after {
            Some(_) => format!("({rank}) <= $3::bigint AND (({rank}) < $3::bigint OR s.token > $4)"),
            None => "$3::bigint IS NOT NULL AND $4::text IS NOT NULL".to_owned(),
        };
        let among = if self.among.is_some() { "s.token = ANY ($5::text[])" } else { "$5::text[] IS NULL" };
        // Companies are looked up for the page alone.
        format!(
            "SELECT p.*, c.company_name FROM (
                SELECT s.customer, s.account, s.token, s.score, s.level, s.status, s.mrr_minor, s.mrr_currency, s.due_at,
                    s.updated_at, ({rank})::bigint AS rank
                FROM customer_states s
                WHERE s.account = $1 AND {level} AND {status} AND {after} AND {among}
                ORDER BY ({rank}) DESC, s.token LIMIT $2
             ) p
             LEFT JOIN customers c ON c.account_id = p.account AND c.external_id = p.customer
             ORDER BY p.rank DESC, p.token"
        )
    }
}

impl ListedCustomer {
    /// The place in its list after this customer.
    pub fn cursor(&self) -> CustomerCursor {
        CustomerCursor { rank: self.rank, token: self.token.to_string() }
    }

    /// What it brings a month, weighted by its score: half of it at a score of 50.
    pub fn mrr_at_risk(&self) -> Option<Money> {
        let weighted = |mrr: Money| (i128::from(mrr.minor.max(0)) * i128::from(self.score) + 50) / 100;
        self.mrr.map(|mrr| Money { minor: i64::try_from(weighted(mrr)).unwrap_or(i64::MAX), ..mrr })
    }
}

impl Store {
    /// An account's customers by rank.
    pub async fn list_customers(
        &self,
        account: &AccountId,
        query: &CustomerQuery<'_>,
    ) -> Result<Vec<ListedCustomer>, StoreError> {
        let (rank, token) = query.after.as_ref().map_or((0, ""), |after| (after.rank, after.token.as_str()));
        let parameters: [&(dyn ToSql + Sync); 5] =
            [&account.as_str(), &row_limit(query.limit), &rank, &token, &query.among];
        let rows = self.statement_of(account, "list customers", &query.sql(), &parameters).await?;
        rows.iter().map(|row| read_listed(&RowReader { table: "customer_states", row })).collect()
    }

    /// The customers whose id, or whose company's name in whatever case, begins with a text.
    pub async fn find_customers(&self, account: &AccountId, text: &str) -> Result<Found, StoreError> {
        let parameters: [&(dyn ToSql + Sync); 4] =
            [&account.as_str(), &PgText(text), &row_limit(MAX_FOUND + 1), &PgText(text)];
        let rows = self.statement_of(account, "find customers", FIND, &parameters).await?;
        let customers: Result<BTreeSet<CustomerId>, StoreError> =
            rows.iter().map(|row| RowReader { table: "customers", row }.customer("external_id")).collect();
        let customers = customers?;
        let truncated = customers.len() > MAX_FOUND;
        let tokens = customers.iter().take(MAX_FOUND).map(|customer| subject::encode(customer).as_str().to_owned());
        Ok(Found { tokens: tokens.collect(), truncated })
    }

    /// Who a customer is, as far as anything is known besides its state.
    pub async fn profile(&self, account: &AccountId, customer: &CustomerId) -> Result<Option<Profile>, StoreError> {
        let parameters: [&(dyn ToSql + Sync); 2] = [&account.as_str(), &PgText(customer.as_str())];
        let rows = self.statement_of(account, "load a profile", PROFILE, &parameters).await?;
        let read = |row| {
            let row = RowReader { table: "customers", row };
            Ok(Profile {
                contact: Contact {
                    company_name: row.optional_text("company_name")?,
                    email: row.optional_text("email")?,
                },
                contact_at: row.optional_time("contact_at")?,
                mrr: row.money("mrr", "currency")?,
                created_at: row.time("created_at")?,
                updated_at: row.time("updated_at")?,
            })
        };
        rows.first().map(read).transpose()
    }
}

/// Stores the contacts of all but erased customers; of two of one customer the later counts.
pub(super) async fn keep_contacts(
    tx: &Tx,
    contacts: &[ContactRow],
    suppressed: &HashSet<(&str, &str)>,
) -> Result<(), StoreError> {
    let mut contacts = merged(contacts);
    contacts.retain(|row| {
        let token = subject::encode(&row.customer);
        !suppressed.contains(&(row.account.as_str(), token.as_str()))
    });
    if contacts.is_empty() {
        return Ok(());
    }
    let accounts: Vec<&str> = contacts.iter().map(|row| row.account.as_str()).collect();
    let customers: Vec<PgText<'_>> = contacts.iter().map(|row| PgText(row.customer.as_str())).collect();
    let companies: Vec<Option<PgText<'_>>> =
        contacts.iter().map(|row| row.contact.company_name.as_deref().map(PgText)).collect();
    let emails: Vec<Option<PgText<'_>>> = contacts.iter().map(|row| row.contact.email.as_deref().map(PgText)).collect();
    let times: Vec<PgTime> = contacts.iter().map(|row| PgTime(row.at)).collect();
    let parameters: [&(dyn ToSql + Sync); 5] = [&accounts, &customers, &companies, &emails, &times];
    tx.execute(KEEP_CONTACTS, &parameters).await?;
    Ok(())
}

/// One row for each customer, in the order in which checkpoints write customers too.
fn merged(contacts: &[ContactRow]) -> Vec<ContactRow> {
    let mut sorted = contacts.to_vec();
    sorted.sort_by(|left, right| {
        let key = |row: &ContactRow| (row.account.clone(), row.customer.clone(), row.at);
        key(left).cmp(&key(right))
    });
    let mut merged: Vec<ContactRow> = Vec::with_capacity(sorted.len());
    for row in sorted {
        match merged.last_mut() {
            Some(last) if last.account == row.account && last.customer == row.customer => {
                last.contact.company_name = row.contact.company_name.or(last.contact.company_name.take());
                last.contact.email = row.contact.email.or(last.contact.email.take());
                last.at = row.at;
            }
            _ => merged.push(row),
        }
    }
    merged
}

fn read_listed(row: &RowReader<'_>) -> Result<ListedCustomer, StoreError> {
    Ok(ListedCustomer {
        customer: row.customer("customer")?,
        token: row.token("token")?,
        score: row.score("score")?,
        level: row.level("level")?,
        status: row.status("status")?,
        mrr: row.money("mrr_minor", "mrr_currency")?,
        due_at: row.optional_time("due_at")?,
        updated_at: row.time("updated_at")?,
        company_name: row.optional_text("company_name")?,
        rank: row.get("rank")?,
    })
}
