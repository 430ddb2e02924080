//! Erasing a customer: who asked, how far it is, and who works on it.
//!
//! A request suppresses the customer and says whom it is about; from its commit on nobody takes the customer for a new one.
//! The owners of the partitions forget it in a checkpoint of theirs. Then whoever claims the erasure works it off, step by
//! step, and anybody may go on where it was left. With the last step everything that names the customer is gone from
//! these tables too.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use uuid::Uuid;

use super::{
    Store,
    error::StoreError,
    suppression::suppress,
    tx::Tx,
    values::{PgText, RowReader, bigint, row_limit},
};
use crate::event::{
    ids::{AccountId, CustomerId, StreamSequence},
    subject,
    time::Timestamp,
};

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Requested {
    /// It is taken on; a request that repeats one under way is that one.
    Accepted(Uuid),
    /// The id is one of Stripe's and belongs to this customer, who is the one to be erased.
    BelongsTo(CustomerId),
}

/// How far an erasure is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErasureState {
    /// The owners of the partitions have not forgotten the customer yet.
    Waiting,
    /// Messages and rows are being erased.
    Erasing,
    /// Everything was erased; it will be looked at once more.
    Checking,
    /// The bucket is being written anew.
    Sweeping,
    /// Nothing is left.
    Done,
}

/// What was erased.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Erased {
    /// Messages of the event stream.
    pub events: u64,
    /// Stripe's webhooks.
    pub webhooks: u64,
    /// Alerts.
    pub alerts: u64,
    /// Dead letters.
    pub dead_letters: u64,
    /// Entries of the bucket.
    pub scores: u64,
    /// Rows of Postgres.
    pub rows: u64,
}

/// An erasure as its account sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Erasure {
    /// Its name.
    pub id: Uuid,
    /// How far it is.
    pub state: ErasureState,
    /// When it was asked for.
    pub requested_at: Timestamp,
    /// When nothing was left.
    pub completed_at: Option<Timestamp>,
    /// What was erased so far.
    pub erased: Erased,
}

/// An erasure that was claimed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErasureJob {
    /// Its name.
    pub id: Uuid,
    /// The tenant.
    pub account: AccountId,
    /// How far it is.
    pub state: ErasureState,
    /// Whom it is about.
    pub customers: Vec<ErasedCustomer>,
}

/// How far streams went when an erasure first looked into them: what comes later is refused as it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamEnds {
    /// Of the event stream.
    pub events: StreamSequence,
    /// Of the webhooks.
    pub webhooks: StreamSequence,
}

/// A customer that an erasure is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErasedCustomer {
    /// The customer's subject token.
    pub token: Box<str>,
    /// The customer's full id.
    pub customer: CustomerId,
    /// Its partition's owner has forgotten it, and what was published before has arrived.
    pub settled: bool,
}

/// A customer that its partition's owner must forget, or has forgotten.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToForget {
    /// The erasure.
    pub erasure: Uuid,
    /// The tenant.
    pub account: AccountId,
    /// The customer's subject token.
    pub token: Box<str>,
    /// A checkpoint deleted its state.
    pub forgotten: bool,
    /// What had been published before that has arrived.
    pub settled: bool,
}

/// A customer that a checkpoint forgets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forgotten {
    /// The erasure that asks for it.
    pub erasure: Uuid,
    /// The tenant.
    pub account: AccountId,
    /// The customer's subject token.
    pub token: Box<str>,
}

/// The erasures that are not done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OpenErasures {
    /// How many.
    pub count: u64,
    /// When the oldest of them was asked for.
    pub oldest: Option<Timestamp>,
    /// Events that came later are still to be overwritten.
    pub has_unwanted: bool,
}

impl ErasureState {
    /// The state as it stands in the table.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Erasing => "erasing",
            Self::Checking => "checking",
            Self::Sweeping => "sweeping",
            Self::Done => "done",
        }
    }

    fn read(row: &RowReader<'_>) -> Result<Self, StoreError> {
        let all = [Self::Waiting, Self::Erasing, Self::Checking, Self::Sweeping, Self::Done];
        let name: &str = row.get("state")?;
        all.into_iter().find(|state| state.as_str() == name).ok_or_else(|| row.broken("state"))
    }
}

impl Erased {
    /// How many messages and rows.
    pub fn total(&self) -> u64 {
        self.events + self.webhooks + self.alerts + self.dead_letters + self.scores + self.rows
    }
}

const LINKED_TO: &str = "SELECT customer FROM stripe_links WHERE account = $1 AND stripe_customer = $2";
const LINKS_OF: &str = "SELECT stripe_customer FROM stripe_links WHERE account = $1 AND customer = ANY ($2::text[])";
const INSERT: &str = "INSERT INTO erasures (id, account, hash) VALUES ($1, $2, $3)
    ON CONFLICT (account, hash) WHERE completed_at IS NULL DO UPDATE SET hash = excluded.hash RETURNING id";
const INSERT_CUSTOMERS: &str = "
    INSERT INTO erasure_customers (erasure, account, token, customer)
    SELECT $1, $2, * FROM unnest($3::text[], $4::text[]) ON CONFLICT (erasure, token) DO NOTHING";
const SHOW: &str =
    "SELECT id, state, requested_at, completed_at, events, webhooks, alerts, dead_letters, scores, stored_rows
    FROM erasures WHERE account = $1 AND id = $2";
const OPEN: &str =
    "SELECT count(*) AS count, min(requested_at) AS oldest, EXISTS (SELECT FROM unwanted_events) AS unwanted
    FROM erasures WHERE completed_at IS NULL";
const TO_FORGET: &str = "SELECT erasure, account, token, forgotten_at IS NOT NULL AS forgotten,
    settled_at IS NOT NULL AS settled FROM erasure_customers ORDER BY erasure, token";
const FORGET: &str = "
    WITH gone AS (SELECT * FROM unnest($1::text[], $2::text[]) AS gone (account, token)),
    states AS (DELETE FROM customer_states s USING gone g WHERE s.account = g.account AND s.token = g.token),
    scores AS (DELETE FROM risk_scores s USING gone g WHERE s.account = g.account AND s.token = g.token),
    messages AS (DELETE FROM outbox o USING gone g WHERE o.account = g.account AND o.token = g.token)
    DELETE FROM deliveries d USING gone g WHERE d.account = g.account AND d.token = g.token";
const MARK_FORGOTTEN: &str = "
    UPDATE erasure_customers c SET forgotten_at = coalesce(c.forgotten_at, now())
    FROM unnest($1::uuid[], $2::text[]) AS u (erasure, token) WHERE c.erasure = u.erasure AND c.token = u.token";
const MARK_SETTLED: &str = "
    UPDATE erasure_customers c SET settled_at = coalesce(c.settled_at, now())
    FROM unnest($1::uuid[], $2::text[]) AS u (erasure, token)
    WHERE c.erasure = u.erasure AND c.token = u.token AND c.forgotten_at IS NOT NULL";
const CLAIM: &str = "
    UPDATE erasures SET claimed_by = $1, claimed_until = clock_timestamp() + make_interval(secs => $2)
    WHERE id IN (
        SELECT id FROM erasures WHERE completed_at IS NULL AND due_at <= clock_timestamp()
          AND (claimed_until IS NULL OR claimed_until <= clock_timestamp())
        ORDER BY due_at LIMIT $3 FOR UPDATE SKIP LOCKED
    )
    RETURNING id, account, state";
const CUSTOMERS: &str = "SELECT erasure, token, customer, settled_at IS NOT NULL AS settled FROM erasure_customers
    WHERE erasure = ANY ($1::uuid[]) ORDER BY erasure, token";
/// Skips what is being moved on at this moment, which needs no more time.
const KEEP: &str = "
    WITH mine AS (
        SELECT id FROM erasures WHERE claimed_by = $1 AND completed_at IS NULL FOR NO KEY UPDATE SKIP LOCKED
    )
    UPDATE erasures e SET claimed_until = clock_timestamp() + make_interval(secs => $2)
    FROM mine WHERE e.id = mine.id";
const MOVE_ON: &str = "
    UPDATE erasures SET state = $3, due_at = clock_timestamp() + make_interval(secs => $4), claimed_by = NULL,
        claimed_until = NULL, events = events + $5, webhooks = webhooks + $6, alerts = alerts + $7,
        dead_letters = dead_letters + $8, scores = scores + $9, stored_rows = stored_rows + $10
    WHERE id = $1 AND claimed_by = $2 AND completed_at IS NULL";
const END_AT: &str = "
    UPDATE erasures SET events_end = coalesce(events_end, $3), webhooks_end = coalesce(webhooks_end, $4)
    WHERE id = $1 AND claimed_by = $2 RETURNING events_end, webhooks_end";
const NAME_SWEPT: &str = "UPDATE erasures SET state = 'sweeping' WHERE id = ANY ($1::uuid[]) AND claimed_by = $2
    AND completed_at IS NULL";
const FINISH: &str = "
    WITH done AS (
        UPDATE erasures SET state = 'done', completed_at = now(), claimed_by = NULL, claimed_until = NULL
        WHERE id = ANY ($1::uuid[]) AND claimed_by = $2 AND completed_at IS NULL RETURNING id
    )
    DELETE FROM erasure_customers c USING done WHERE c.erasure = done.id";
const READ_BY_ALL: &str = "SELECT coalesce(min(watermark), 0) AS watermark FROM partitions WHERE role = 'engine'";

impl Store {
    /// Takes on the erasure of a customer, known or not: from the commit on it is suppressed.
    pub async fn request_erasure(&self, account: &AccountId, customer: &CustomerId) -> Result<Requested, StoreError> {
        let key = self.suppression_key().await?;
        let hash = key.customer(account.as_str(), subject::encode(customer).as_str());
        let (hash, id) = (&hash, Uuid::new_v4());
        self.transaction_of(account, "take on an erasure", move |tx| async move {
            let own = PgText(customer.as_str());
            if let Some(row) = tx.query(LINKED_TO, &[&account.as_str(), &own]).await?.first() {
                let row = RowReader { table: "stripe_links", row };
                return Ok(Requested::BelongsTo(row.customer("customer")?));
            }
            let mut customers = BTreeSet::from([customer.clone()]);
            customers.extend(links_of(&tx, account, &[customer]).await?);
            // One that is under way stays so until this is committed.
            let rows = tx.query(INSERT, &[&id, &account.as_str(), &hash]).await?;
            let id = rows.first().map_or(id, |row| row.get("id"));
            self.add_customers(&tx, id, account, &customers).await?;
            Ok(Requested::Accepted(id))
        })
        .await
    }

    /// One of the account's erasures.
    pub async fn erasure(&self, account: &AccountId, id: Uuid) -> Result<Option<Erasure>, StoreError> {
        let rows = self.statement_of(account, "show an erasure", SHOW, &[&account.as_str(), &id]).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        let row = RowReader { table: "erasures", row };
        Ok(Some(Erasure {
            id: row.get("id")?,
            state: ErasureState::read(&row)?,
            requested_at: row.time("requested_at")?,
            completed_at: row.optional_time("completed_at")?,
            erased: Erased {
                events: row.number("events")?,
                webhooks: row.number("webhooks")?,
                alerts: row.number("alerts")?,
                dead_letters: row.number("dead_letters")?,
                scores: row.number("scores")?,
                rows: row.number("stored_rows")?,
            },
        }))
    }

    /// The erasures that are not done, of all accounts.
    pub async fn open_erasures(&self) -> Result<OpenErasures, StoreError> {
        let rows = self.statement("count the erasures", OPEN, &[]).await?;
        let Some(row) = rows.first() else { return Ok(OpenErasures::default()) };
        let row = RowReader { table: "erasures", row };
        let (count, oldest) = (row.number("count")?, row.optional_time("oldest")?);
        Ok(OpenErasures { count, oldest, has_unwanted: row.get("unwanted")? })
    }

    /// Everybody whom erasures that are not done are about.
    pub async fn customers_to_forget(&self) -> Result<Vec<ToForget>, StoreError> {
        let rows = self.statement("look for erasures", TO_FORGET, &[]).await?;
        rows.iter()
            .map(|row| {
                let row = RowReader { table: "erasure_customers", row };
                Ok(ToForget {
                    erasure: row.get("erasure")?,
                    account: row.account("account")?,
                    token: row.token("token")?,
                    forgotten: row.get("forgotten")?,
                    settled: row.get("settled")?,
                })
            })
            .collect()
    }

    /// What was published before these customers were forgotten has arrived.
    pub async fn settle_forgotten(&self, forgotten: &[Forgotten]) -> Result<(), StoreError> {
        let erasures: Vec<Uuid> = forgotten.iter().map(|row| row.erasure).collect();
        let tokens: Vec<&str> = forgotten.iter().map(|row| &*row.token).collect();
        self.statement("settle an erasure", MARK_SETTLED, &[&erasures, &tokens]).await?;
        Ok(())
    }

    /// Claims erasures that something can be done about, for as long as `span` or until they are moved on.
    pub async fn claim_erasures(&self, me: Uuid, span: Duration, limit: usize) -> Result<Vec<ErasureJob>, StoreError> {
        let span = span.as_secs_f64();
        self.transaction("claim erasures", move |tx| async move {
            let rows = tx.query(CLAIM, &[&me, &span, &row_limit(limit)]).await?;
            let mut jobs = Vec::new();
            for row in &rows {
                let row = RowReader { table: "erasures", row };
                let (id, account, state) = (row.get("id")?, row.account("account")?, ErasureState::read(&row)?);
                jobs.push(ErasureJob { id, account, state, customers: Vec::new() });
            }
            let ids: Vec<Uuid> = jobs.iter().map(|job| job.id).collect();
            for row in &tx.query(CUSTOMERS, &[&ids]).await? {
                let row = RowReader { table: "erasure_customers", row };
                let erasure: Uuid = row.get("erasure")?;
                let Some(job) = jobs.iter_mut().find(|job| job.id == erasure) else { continue };
                let (token, customer, settled) = (row.token("token")?, row.customer("customer")?, row.get("settled")?);
                job.customers.push(ErasedCustomer { token, customer, settled });
            }
            Ok(jobs)
        })
        .await
    }

    /// Keeps what was claimed for another `span`.
    pub async fn keep_erasures(&self, me: Uuid, span: Duration) -> Result<(), StoreError> {
        self.statement("keep erasures", KEEP, &[&me, &span.as_secs_f64()]).await?;
        Ok(())
    }

    /// Adds Stripe customers that were linked since the erasure was asked for; says whether there were any.
    pub async fn follow_links(&self, job: &ErasureJob) -> Result<bool, StoreError> {
        let known: BTreeSet<&CustomerId> = job.customers.iter().map(|customer| &customer.customer).collect();
        let known = &known;
        self.transaction("follow a customer's links", move |tx| async move {
            let ids: Vec<&CustomerId> = known.iter().copied().collect();
            let mut found = links_of(&tx, &job.account, &ids).await?;
            found.retain(|found| !known.contains(found));
            self.add_customers(&tx, job.id, &job.account, &found).await?;
            Ok(!found.is_empty())
        })
        .await
    }

    /// Says how far a claimed erasure came, adds what was erased, and gives it back until after `pause`.
    pub async fn move_erasure_on(
        &self,
        me: Uuid,
        id: Uuid,
        state: ErasureState,
        pause: Duration,
        erased: Erased,
    ) -> Result<(), StoreError> {
        let counts = [erased.events, erased.webhooks, erased.alerts, erased.dead_letters, erased.scores, erased.rows]
            .map(bigint);
        let [events, webhooks, alerts, dead_letters, scores, rows] = &counts;
        let (state, pause) = (state.as_str(), pause.as_secs_f64());
        let move_on = move |tx: Arc<Tx>| async move {
            let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 10] =
                [&id, &me, &state, &pause, events, webhooks, alerts, dead_letters, scores, rows];
            tx.execute(MOVE_ON, &parameters).await
        };
        self.transaction("move an erasure on", move_on).await?;
        Ok(())
    }

    /// Notes how far streams go, unless that was noted before; gives what counts.
    pub async fn end_erasure_at(&self, me: Uuid, id: Uuid, ends: StreamEnds) -> Result<StreamEnds, StoreError> {
        let (events, webhooks) = (bigint(ends.events.0), bigint(ends.webhooks.0));
        let rows = self.statement("bound an erasure", END_AT, &[&id, &me, &events, &webhooks]).await?;
        let Some(row) = rows.first() else {
            return Err(StoreError::unavailable("bound an erasure", "somebody else has claimed it"));
        };
        let row = RowReader { table: "erasures", row };
        let (events, webhooks) = (row.number("events_end")?, row.number("webhooks_end")?);
        Ok(StreamEnds { events: StreamSequence(events), webhooks: StreamSequence(webhooks) })
    }

    /// Notes that the bucket is about to be written anew for these: until it is, it may be empty.
    pub async fn begin_sweep(&self, me: Uuid, ids: &[Uuid]) -> Result<(), StoreError> {
        self.statement("begin a sweep", NAME_SWEPT, &[&ids, &me]).await?;
        Ok(())
    }

    /// Ends erasures, and forgets whom they were about.
    pub async fn finish_erasures(&self, me: Uuid, ids: &[Uuid]) -> Result<(), StoreError> {
        self.statement("finish erasures", FINISH, &[&ids, &me]).await?;
        Ok(())
    }

    /// Up to where all partitions have accounted for the event stream.
    pub async fn read_by_all(&self) -> Result<StreamSequence, StoreError> {
        let rows = self.statement("look up the watermarks", READ_BY_ALL, &[]).await?;
        rows.first().map_or(Ok(0), |row| RowReader { table: "partitions", row }.number("watermark")).map(StreamSequence)
    }

    async fn add_customers(
        &self,
        tx: &Tx,
        erasure: Uuid,
        account: &AccountId,
        customers: &BTreeSet<CustomerId>,
    ) -> Result<(), StoreError> {
        let key = self.suppression_key().await?;
        let tokens: Vec<subject::Token> = customers.iter().map(subject::encode).collect();
        let hashes: Vec<_> = tokens.iter().map(|token| key.customer(account.as_str(), token.as_str())).collect();
        suppress(tx, account, &hashes).await?;
        let tokens: Vec<&str> = tokens.iter().map(subject::Token::as_str).collect();
        let ids: Vec<PgText<'_>> = customers.iter().map(|customer| PgText(customer.as_str())).collect();
        tx.execute(INSERT_CUSTOMERS, &[&erasure, &account.as_str(), &tokens, &ids]).await?;
        Ok(())
    }
}

async fn links_of(tx: &Tx, account: &AccountId, customers: &[&CustomerId]) -> Result<BTreeSet<CustomerId>, StoreError> {
    let ids: Vec<PgText<'_>> = customers.iter().map(|customer| PgText(customer.as_str())).collect();
    let rows = tx.query(LINKS_OF, &[&account.as_str(), &ids]).await?;
    rows.iter().map(|row| RowReader { table: "stripe_links", row }.customer("stripe_customer")).collect()
}

/// Deletes what would be loaded or published of customers again, in the checkpoint that forgets them.
pub(super) async fn forget(tx: &Tx, forgotten: &[&Forgotten]) -> Result<(), StoreError> {
    let erasures: Vec<Uuid> = forgotten.iter().map(|row| row.erasure).collect();
    let accounts: Vec<&str> = forgotten.iter().map(|row| row.account.as_str()).collect();
    let tokens: Vec<&str> = forgotten.iter().map(|row| &*row.token).collect();
    tx.execute(FORGET, &[&accounts, &tokens]).await?;
    tx.execute(MARK_FORGOTTEN, &[&erasures, &tokens]).await?;
    Ok(())
}
