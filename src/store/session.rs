//! One instance's standing: a connection of its own that shows it is alive, its heartbeat and its leases.
//!
//! The connection holds an advisory lock for as long as it lives, so that a killed instance is succeeded as soon as the
//! kernel closes its socket, not when its lease runs out. Losing the connection loses nothing by itself: the session opens
//! another under the same id, and only what somebody else took in the meantime is gone.
//!
//! Does not decide what to do with partitions: see [`leases`](super::leases) for what to take, and the pipeline for the
//! rest. Needs a connection that stays one session: no pooler in transaction mode between here and Postgres.

use std::{collections::HashMap, time::Duration};

use deadpool_postgres::Object;
use tokio::{sync::Mutex, time::timeout};
use uuid::Uuid;

use super::{
    Store,
    error::StoreError,
    leases::{Decision, InstanceView, Lease, Leases, Memory, PartitionView, Role, Target, View, decide, read_lease},
    partitioning::{self, Layout},
    tx::{OwnConnection, Tx},
    values::{RowReader, bigint, smallint},
};
use crate::event::ids::{Epoch, PartitionId};

const DOING: &str = "renew the leases";

const TRY_LOCK: &str = "SELECT pg_try_advisory_lock($1)";
const HEARTBEAT: &str = "
    WITH forgotten AS (
        DELETE FROM instances WHERE (session, role) IN (
            SELECT session, role FROM instances
            WHERE heartbeat_until < clock_timestamp() - interval '1 day' FOR UPDATE SKIP LOCKED)
    )
    INSERT INTO instances (session, role, instance, lock_key, heartbeat_until)
    VALUES ($1, $2, $3, $4, clock_timestamp() + make_interval(secs => $5))
    ON CONFLICT (session, role) DO UPDATE SET heartbeat_until = excluded.heartbeat_until";
const INSTANCES: &str = "
    SELECT i.session, i.heartbeat_until > clock_timestamp() AS fresh, l.objid IS NOT NULL AS connected
    FROM instances i LEFT JOIN pg_locks l
      ON l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
     AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
     AND ((l.classid::bigint << 32) | l.objid::bigint) = i.lock_key
    WHERE i.role = $1";
const PARTITIONS: &str = "
    SELECT id, epoch, session, coalesce(lease_until <= clock_timestamp(), true) AS expired
    FROM partitions WHERE role = $1 ORDER BY id";
/// Skips what a checkpoint of ours is writing at this moment: nobody else can take it either, and it renews the lease. Nor is
/// a row written that was renewed lately: rounds are more frequent than that needs.
const RENEW: &str = "
    WITH mine AS (
        SELECT role, id FROM partitions WHERE role = $1 AND session = $2
          AND lease_until < clock_timestamp() + make_interval(secs => $3::float8 * 2 / 3)
        ORDER BY id FOR NO KEY UPDATE SKIP LOCKED
    )
    UPDATE partitions p SET lease_until = clock_timestamp() + make_interval(secs => $3)
    FROM mine WHERE p.role = mine.role AND p.id = mine.id";
const TAKE: &str = "
    WITH free AS (
        SELECT p.role, p.id FROM partitions p
        JOIN unnest($1::smallint[], $2::bigint[]) AS wanted (id, epoch) ON p.id = wanted.id AND p.epoch = wanted.epoch
        WHERE p.role = $3 AND p.generation = $8 AND (p.session IS NULL OR p.lease_until <= clock_timestamp() OR p.session = ANY ($4::uuid[]))
        FOR NO KEY UPDATE OF p SKIP LOCKED
    )
    UPDATE partitions p SET owner = $5, session = $6, epoch = p.epoch + 1, taken_in = $8, taken_at = clock_timestamp(),
        lease_until = clock_timestamp() + make_interval(secs => $7)
    FROM free WHERE p.role = free.role AND p.id = free.id";
const HELD: &str = "
    SELECT id, epoch, watermark, watermark_time, stream_created, rules_hash, received, applied, duplicate, late, dead, suppressed,
        extract(epoch FROM lease_until - clock_timestamp())::float8 AS remaining
    FROM partitions WHERE role = $1 AND session = $2 ORDER BY id";
const RELEASE: &str = "
    UPDATE partitions SET owner = NULL, session = NULL, lease_until = NULL
    WHERE role = $1 AND id = $2 AND session = $3 AND epoch = $4 RETURNING id";
const LEAVE: &str = "
    WITH released AS (
        UPDATE partitions SET owner = NULL, session = NULL, lease_until = NULL WHERE session = $1
    )
    DELETE FROM instances WHERE session = $1";

/// An instance among those that share the partitions.
pub struct Session {
    store: Store,
    id: Uuid,
    instance: String,
    standing: Mutex<Standing>,
}

/// What the session holds on to between rounds.
#[derive(Default)]
struct Standing {
    connection: Option<LockedConnection>,
    roles: HashMap<Role, RoleStanding>,
}

struct LockedConnection {
    client: OwnConnection,
    /// The session's lock is held by this connection; a dying one of ours may still have it.
    locked: bool,
}

#[derive(Default)]
struct RoleStanding {
    memory: Memory,
    held: HashMap<PartitionId, Epoch>,
}

impl Store {
    /// Joins the instances that share the partitions; what is to be owned is said with each round.
    pub async fn open_session(&self, instance: &str) -> Result<Session, StoreError> {
        let session = Session {
            store: self.clone(),
            id: Uuid::new_v4(),
            instance: instance.to_owned(),
            standing: Mutex::new(Standing::default()),
        };
        session.connect(&mut *session.standing.lock().await).await?;
        Ok(session)
    }
}

impl Session {
    /// What the session is called in the tables.
    pub fn id(&self) -> Uuid {
        self.id
    }

    /// `<instance>/<session>`: how its partitions are marked.
    pub fn owner(&self) -> String {
        format!("{}/{}", self.instance, self.id)
    }

    /// How long a lease lasts after its last renewal.
    pub fn lease(&self) -> Duration {
        self.store.lease()
    }

    /// The own connection is gone: the next round opens another.
    pub async fn is_disconnected(&self) -> bool {
        self.standing.lock().await.connection.as_ref().is_none_or(|connection| connection.client.is_closed())
    }

    /// One round: shows that the instance is alive, renews what it holds, takes what is free up to `target` and says
    /// what it should give up. To be repeated at least three times per lease.
    pub async fn acquire_and_renew(&self, role: Role, target: Target) -> Result<Leases, StoreError> {
        let mut standing = self.standing.lock().await;
        let patience = self.store.lease().max(Duration::from_secs(2));
        let round = async {
            self.connect(&mut standing).await?;
            self.round(&mut standing, role, target).await
        };
        let outcome = match timeout(patience, round).await {
            Ok(outcome) => outcome,
            Err(_) => Err(StoreError::unavailable(DOING, "the round took longer than a lease lasts")),
        };
        if outcome.is_err() {
            standing.connection = None;
        }
        outcome
    }

    /// Gives a partition up: to be called once its last checkpoint stands. False when it was not ours in this epoch.
    pub async fn release(&self, role: Role, partition: PartitionId, epoch: Epoch) -> Result<bool, StoreError> {
        let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 4] =
            [&role.as_str(), &smallint(partition), &self.id, &bigint(epoch.0)];
        let rows = self.store.statement("release a partition", RELEASE, &parameters).await?;
        let mut standing = self.standing.lock().await;
        let held = &mut standing.roles.entry(role).or_default().held;
        if held.get(&partition) == Some(&epoch) {
            held.remove(&partition);
        }
        Ok(!rows.is_empty())
    }

    /// Gives up everything and leaves: the others need not wait for anything to run out.
    pub async fn close(self) -> Result<(), StoreError> {
        self.store.statement("leave the instances", LEAVE, &[&self.id]).await?;
        Ok(())
    }

    /// Makes sure of a connection that holds the session's lock.
    async fn connect(&self, standing: &mut Standing) -> Result<(), StoreError> {
        let kept = standing.connection.take().filter(|connection| !connection.client.is_closed());
        let mut connection = match kept {
            Some(connection) => connection,
            None => {
                let client = OwnConnection(Object::take(self.store.connection(DOING).await?));
                LockedConnection { client, locked: false }
            }
        };
        if !connection.locked {
            let failed = |error| StoreError::of_postgres(DOING, &error);
            let row = connection.client.query_one(TRY_LOCK, &[&self.lock_key()]).await.map_err(failed)?;
            connection.locked = row.try_get(0).map_err(failed)?;
        }
        standing.connection = Some(connection);
        Ok(())
    }

    async fn round(&self, standing: &mut Standing, role: Role, target: Target) -> Result<Leases, StoreError> {
        let Standing { connection, roles } = standing;
        let LockedConnection { client, locked } =
            connection.take().ok_or_else(|| StoreError::unavailable(DOING, "there is no connection"))?;
        let mine = roles.entry(role).or_default();
        let tx = Tx::begin(client, DOING).await?;
        let layout = match role {
            Role::Engine => partitioning::read(&tx, "").await?.unwrap_or_else(|| Layout::new(1)),
            Role::Archive => Layout::new(1),
        };
        let view = self.look(&tx, role).await?;
        let decision = decide(&view, self.id, target, &mine.memory);
        let (held, remaining) = self.ask_for(&tx, role, &decision, layout.generation).await?;
        *connection = Some(LockedConnection { client: tx.commit().await?, locked });

        let before =
            std::mem::replace(&mut mine.held, held.iter().map(|lease| (lease.partition, lease.epoch)).collect());
        mine.memory = Memory { rounds: mine.memory.rounds + 1, suspects: decision.suspects };
        Ok(Leases {
            gained: held.iter().filter(|lease| before.get(&lease.partition) != Some(&lease.epoch)).cloned().collect(),
            lost: lost(&before, &mine.held),
            surplus: decision.surplus,
            layout,
            wanting: held.len() < decision.share && mine.memory.suspects.is_empty(),
            valid_for: remaining.min(self.store.lease()),
            held,
        })
    }

    /// Shows that we are alive and reads who else is, and who owns what.
    async fn look(&self, tx: &Tx<OwnConnection>, role: Role) -> Result<View, StoreError> {
        let lease = self.store.lease().as_secs_f64();
        let key = self.lock_key();
        tx.execute(HEARTBEAT, &[&self.id, &role.as_str(), &self.instance, &key, &lease]).await?;
        // In this order: whoever is seen to own something has shown before that it is alive, in the same transaction.
        let partitions = tx.query(PARTITIONS, &[&role.as_str()]).await?;
        let instances = tx.query(INSTANCES, &[&role.as_str()]).await?;
        let instance = |row| {
            let row = RowReader { table: "instances", row };
            Ok(InstanceView {
                session: row.get("session")?,
                fresh: row.get("fresh")?,
                connected: row.get("connected")?,
            })
        };
        let partition = |row| {
            let row = RowReader { table: "partitions", row };
            let epoch = Epoch(row.number("epoch")?);
            Ok(PartitionView {
                id: row.partition("id")?,
                epoch,
                session: row.get("session")?,
                expired: row.get("expired")?,
            })
        };
        Ok(View {
            partitions: partitions.iter().map(partition).collect::<Result<_, StoreError>>()?,
            instances: instances.iter().map(instance).collect::<Result<_, StoreError>>()?,
        })
    }

    /// Renews, takes, and reads what is ours now and for how long at least.
    async fn ask_for(
        &self,
        tx: &Tx<OwnConnection>,
        role: Role,
        decision: &Decision,
        generation: u64,
    ) -> Result<(Vec<Lease>, Duration), StoreError> {
        let lease = self.store.lease().as_secs_f64();
        tx.execute(RENEW, &[&role.as_str(), &self.id, &lease]).await?;
        if !decision.take.is_empty() {
            let ids: Vec<i16> = decision.take.iter().map(|(id, _)| smallint(*id)).collect();
            let epochs: Vec<i64> = decision.take.iter().map(|(_, epoch)| bigint(epoch.0)).collect();
            let owner = self.owner();
            let generation = bigint(generation);
            let role = role.as_str();
            tx.execute(TAKE, &[&ids, &epochs, &role, &decision.dead, &owner, &self.id, &lease, &generation]).await?;
        }
        let rows = tx.query(HELD, &[&role.as_str(), &self.id]).await?;
        let mut remaining = self.store.lease();
        let mut held = Vec::with_capacity(rows.len());
        for row in &rows {
            let row = RowReader { table: "partitions", row };
            remaining = remaining.min(Duration::from_secs_f64(row.get::<f64>("remaining")?.max(0.0)));
            held.push(read_lease(&row)?);
        }
        Ok((held, remaining))
    }

    /// The advisory lock that stands for this session: 64 bits of its random id.
    fn lock_key(&self) -> i64 {
        let (high, low) = self.id.as_u64_pair();
        i64::from_ne_bytes((high ^ low).to_ne_bytes())
    }
}

/// What was held in an epoch and is not any more.
fn lost(before: &HashMap<PartitionId, Epoch>, now: &HashMap<PartitionId, Epoch>) -> Vec<PartitionId> {
    let gone = before.iter().filter(|(partition, epoch)| now.get(partition) != Some(epoch));
    let mut lost: Vec<PartitionId> = gone.map(|(partition, _)| *partition).collect();
    lost.sort_unstable();
    lost
}
