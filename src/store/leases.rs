//! Who owns which partition: the types, and the decision what to take and what to give up.
//!
//! The decision is pure: it sees what one round read from the database and says what to ask for. The database has the
//! last word, by its own clock: what is taken in the meantime by somebody else is simply not gained.
//!
//! Invariant: an epoch belongs to one owner only, because every taking adds one to it.

use std::{cmp::Reverse, collections::HashSet, time::Duration};

use uuid::Uuid;

use super::{
    Store,
    error::StoreError,
    partitioning::Layout,
    values::{RowReader, smallint},
};
use crate::{
    engine::checkpoint::Counters,
    event::{
        ids::{Epoch, PartitionId, StreamSequence},
        time::Timestamp,
    },
};

/// What partitions are owned for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Scoring: one lease per partition of the event stream.
    Engine,
    /// Archiving: one lease for the whole stream.
    Archive,
}

impl Role {
    /// The role as it stands in tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Engine => "engine",
            Self::Archive => "archive",
        }
    }
}

/// How many partitions a round goes for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// As many as each live instance should have.
    FairShare,
    /// The fair share, but never more than this.
    AtMost(usize),
    /// None: only keep what is held, as while stopping.
    Keep,
}

/// A partition that is ours, and where its state stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The partition.
    pub partition: PartitionId,
    /// What every write must carry.
    pub epoch: Epoch,
    /// Everything up to this message is accounted for in the tables.
    pub watermark: StreamSequence,
    /// When the watermark's message was stored.
    pub watermark_time: Option<Timestamp>,
    /// When the stream was created that the watermark counts in.
    pub stream_created: Option<Timestamp>,
    /// The rules that all stored scores of the partition were made with.
    pub rules_hash: Option<String>,
    /// What became of all messages so far.
    pub counters: Counters,
}

/// What a round found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leases {
    /// All that is ours now, by partition.
    pub held: Vec<Lease>,
    /// What was not ours, or not in this epoch, a round before.
    pub gained: Vec<Lease>,
    /// What was ours a round before and is somebody else's now: drop its state.
    pub lost: Vec<PartitionId>,
    /// What others should have: store a last checkpoint, then [`release`](super::session::Session::release) it.
    pub surplus: Vec<PartitionId>,
    /// How customers belong to partitions, as all that is held was taken by.
    pub layout: Layout,
    /// The share is larger than what is held: others, all of them alive, are still to give something up. Who seems dead is
    /// looked at again in an ordinary round, or a connection that is lost for a moment would cost everything.
    pub wanting: bool,
    /// For how long nobody else takes what is held, counted from before the round was asked for. Beyond it take no new
    /// work until a round succeeds; writes are refused if somebody took over.
    pub valid_for: Duration,
}

/// A partition's row as people see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// What it is owned for.
    pub role: Role,
    /// The partition.
    pub partition: PartitionId,
    /// `<instance>/<session>`, if anybody owns it.
    pub owner: Option<String>,
    /// How often it changed hands.
    pub epoch: Epoch,
    /// Since when it belongs to this owner.
    pub since: Option<Timestamp>,
    /// Until when the owner counts as alive.
    pub lease_until: Option<Timestamp>,
    /// The lease is over by the database's clock, or there is none.
    pub expired: bool,
    /// Everything up to this message is accounted for.
    pub watermark: StreamSequence,
    /// When the watermark's message was stored.
    pub watermark_time: Option<Timestamp>,
    /// When the stream was created that the watermark counts in.
    pub stream_created: Option<Timestamp>,
    /// The rules its scores were made with.
    pub rules_hash: Option<String>,
    /// What became of all messages so far.
    pub counters: Counters,
}

/// A partition's row as a round reads it.
#[derive(Clone, Debug)]
pub struct PartitionView {
    /// Which.
    pub id: PartitionId,
    /// How often it changed hands.
    pub epoch: Epoch,
    /// Whose it is, if anybody's.
    pub session: Option<Uuid>,
    /// The lease is over, or there is none.
    pub expired: bool,
}

/// An instance's row as a round reads it.
#[derive(Clone, Debug)]
pub struct InstanceView {
    /// Its name.
    pub session: Uuid,
    /// Its heartbeat has not run out.
    pub fresh: bool,
    /// Its connection holds its lock.
    pub connected: bool,
}

/// What one round saw.
pub struct View {
    /// By id.
    pub partitions: Vec<PartitionView>,
    /// All that are known, in any order.
    pub instances: Vec<InstanceView>,
}

/// What an instance remembers from the round before.
#[derive(Default)]
pub struct Memory {
    /// How many rounds it has done.
    pub rounds: u64,
    /// Sessions that looked dead in the round before.
    pub suspects: HashSet<Uuid>,
}

/// What to ask the database for.
#[derive(Debug, PartialEq, Eq)]
pub struct Decision {
    /// How many partitions should be ours.
    pub share: usize,
    /// What to take, with the epoch it was seen in.
    pub take: Vec<(PartitionId, Epoch)>,
    /// Sessions whose leases need not be waited for.
    pub dead: Vec<Uuid>,
    /// What is held beyond the share.
    pub surplus: Vec<PartitionId>,
    /// Sessions to look at again in the next round.
    pub suspects: HashSet<Uuid>,
}

/// Decides what to take and what to give up.
pub fn decide(view: &View, me: Uuid, target: Target, memory: &Memory) -> Decision {
    let suspects = disconnected(view, me);
    let is_dead =
        |session: &Uuid| suspects.contains(session) && (memory.rounds == 0 || memory.suspects.contains(session));
    let mut dead: Vec<Uuid> = suspects.iter().copied().filter(|session| is_dead(session)).collect();
    dead.sort_unstable();

    let others = view.instances.iter().filter(|other| other.session != me && other.fresh && !is_dead(&other.session));
    let fair = fair_share(view, me, others.map(|other| other.session));
    let mine: Vec<PartitionId> =
        view.partitions.iter().filter(|row| row.session == Some(me)).map(|row| row.id).collect();
    let share = match target {
        Target::FairShare => fair,
        Target::AtMost(most) => fair.min(most),
        Target::Keep => mine.len(),
    };
    let is_free = |row: &&PartitionView| match row.session {
        None => true,
        Some(session) if session == me => false,
        Some(session) => row.expired || is_dead(&session),
    };
    let room = share.saturating_sub(mine.len());
    let take = view.partitions.iter().filter(is_free).take(room).map(|row| (row.id, row.epoch)).collect();
    let surplus = mine.into_iter().skip(share).collect();
    Decision { share, take, dead, surplus, suspects }
}

/// How many partitions this instance should have: no two differ by more than one. Where they do not come out even, those
/// have one more that hold most now, so that as little as possible moves.
fn fair_share(view: &View, me: Uuid, others: impl Iterator<Item = Uuid>) -> usize {
    let held = |session: Uuid| view.partitions.iter().filter(|row| row.session == Some(session)).count();
    let rank = |session: Uuid| (Reverse(held(session)), session);
    let others: Vec<_> = others.map(rank).collect();
    let before = others.iter().filter(|other| **other < rank(me)).count();
    let instances = others.len() + 1;
    view.partitions.len() / instances + usize::from(before < view.partitions.len() % instances)
}

/// Sessions of others that own something or seem to run, without a connection that holds their lock.
fn disconnected(view: &View, me: Uuid) -> HashSet<Uuid> {
    let connected: HashSet<Uuid> =
        view.instances.iter().filter(|instance| instance.connected).map(|instance| instance.session).collect();
    let owners = view.partitions.iter().filter_map(|row| row.session);
    let known = view.instances.iter().map(|instance| instance.session);
    owners.chain(known).filter(|session| *session != me && !connected.contains(session)).collect()
}

const OWNERS: &str =
    "SELECT role, id, owner, epoch, taken_at, lease_until, coalesce(lease_until <= clock_timestamp(), true) AS expired,
    watermark, watermark_time, stream_created, rules_hash, received, applied, duplicate, late, dead, suppressed
    FROM partitions ORDER BY role DESC, id";
/// Those whose connection stands: who was killed has none, though its last heartbeat may still count.
const LIVING: &str = "SELECT DISTINCT i.instance || '/' || i.session AS owner FROM instances i JOIN pg_locks l
      ON l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
     AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
     AND ((l.classid::bigint << 32) | l.objid::bigint) = i.lock_key
    WHERE i.role = $1 AND i.heartbeat_until > clock_timestamp() ORDER BY 1";

impl Store {
    /// Who owns what and how far each is, as of now.
    pub async fn owners(&self) -> Result<Vec<Owner>, StoreError> {
        let rows = self.statement("list the owners", OWNERS, &[]).await?;
        rows.iter().map(|row| read_owner(&RowReader { table: "partitions", row })).collect()
    }

    /// The instances that are alive and share partitions in a role, as `<instance>/<session>`.
    pub async fn living(&self, role: Role) -> Result<Vec<String>, StoreError> {
        let rows = self.statement("list the instances", LIVING, &[&role.as_str()]).await?;
        rows.iter().map(|row| RowReader { table: "instances", row }.get("owner")).collect()
    }
}

fn read_owner(row: &RowReader<'_>) -> Result<Owner, StoreError> {
    Ok(Owner {
        role: match row.get("role")? {
            "engine" => Role::Engine,
            "archive" => Role::Archive,
            _ => return Err(row.broken("role")),
        },
        partition: row.partition("id")?,
        owner: row.get("owner")?,
        epoch: Epoch(row.number("epoch")?),
        since: row.optional_time("taken_at")?,
        lease_until: row.optional_time("lease_until")?,
        expired: row.get("expired")?,
        watermark: StreamSequence(row.number("watermark")?),
        watermark_time: row.optional_time("watermark_time")?,
        stream_created: row.optional_time("stream_created")?,
        rules_hash: row.get("rules_hash")?,
        counters: read_counters(row)?,
    })
}

pub(super) fn read_lease(row: &RowReader<'_>) -> Result<Lease, StoreError> {
    Ok(Lease {
        partition: row.partition("id")?,
        epoch: Epoch(row.number("epoch")?),
        watermark: StreamSequence(row.number("watermark")?),
        watermark_time: row.optional_time("watermark_time")?,
        stream_created: row.optional_time("stream_created")?,
        rules_hash: row.get("rules_hash")?,
        counters: read_counters(row)?,
    })
}

fn read_counters(row: &RowReader<'_>) -> Result<Counters, StoreError> {
    Ok(Counters {
        received: row.number("received")?,
        applied: row.number("applied")?,
        duplicate: row.number("duplicate")?,
        late: row.number("late")?,
        dead: row.number("dead")?,
        suppressed: row.number("suppressed")?,
    })
}

/// The columns of [`PartitionId`]s to ask for.
pub(super) fn smallints(partitions: &[PartitionId]) -> Vec<i16> {
    partitions.iter().map(|partition| smallint(*partition)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uuid(name: char) -> Uuid {
        Uuid::from_u128(name as u128)
    }

    /// Partitions as `owner` letters (`-` free, upper case expired), instances as letters (`!` behind: not connected,
    /// `~`: heartbeat over).
    fn view(partitions: &str, instances: &str) -> View {
        let partitions = partitions.chars().zip(0..).map(|(owner, id)| PartitionView {
            id: PartitionId(id),
            epoch: Epoch(u64::from(id) + 10),
            session: (owner != '-').then(|| uuid(owner.to_ascii_lowercase())),
            expired: owner == '-' || owner.is_uppercase(),
        });
        let instances = instances.split_whitespace().map(|text| InstanceView {
            session: uuid(text.chars().next().unwrap()),
            fresh: !text.contains('~'),
            connected: !text.contains('!'),
        });
        View { partitions: partitions.collect(), instances: instances.collect() }
    }

    /// What `a` takes and gives up, as partition numbers: `take 0 1 · surplus 5`.
    #[track_caller]
    fn check(partitions: &str, instances: &str, memory: &Memory, target: Target, expected: &str) {
        let decision = decide(&view(partitions, instances), uuid('a'), target, memory);
        let numbers = |ids: Vec<u16>| ids.iter().map(|id| format!(" {id}")).collect::<String>();
        let take = numbers(decision.take.iter().map(|(id, _)| id.0).collect());
        let surplus = numbers(decision.surplus.iter().map(|id| id.0).collect());
        assert_eq!(format!("take{take} · surplus{surplus}"), expected, "{partitions} {instances}");
    }

    fn booting() -> Memory {
        Memory::default()
    }

    fn running(suspects: &str) -> Memory {
        Memory { rounds: 5, suspects: suspects.chars().map(uuid).collect() }
    }

    #[test]
    fn the_fair_share_is_taken_from_what_is_free() {
        check("--------", "a", &booting(), Target::FairShare, "take 0 1 2 3 4 5 6 7 · surplus");
        check("--------", "a b", &booting(), Target::FairShare, "take 0 1 2 3 · surplus");
        check("--------", "a b c", &booting(), Target::FairShare, "take 0 1 2 · surplus");
        check("bbbb----", "a b", &running(""), Target::FairShare, "take 4 5 6 7 · surplus");
        check("aaaa----", "a b", &running(""), Target::FairShare, "take · surplus");
        check("--------", "", &booting(), Target::FairShare, "take 0 1 2 3 4 5 6 7 · surplus");
    }

    #[test]
    fn what_is_held_beyond_the_share_is_given_up() {
        check("aaaaaaaa", "a b", &running(""), Target::FairShare, "take · surplus 4 5 6 7");
        check("aaaaabbb", "a b", &running(""), Target::FairShare, "take · surplus 4");
        check("aaaabbbb", "a b c", &running(""), Target::FairShare, "take · surplus 3");
        // Eight over three: two have three, and those are who hold the most.
        check("aaabbb--", "a b c", &running(""), Target::FairShare, "take · surplus");
        check("aabbbccc", "a b c", &running(""), Target::FairShare, "take · surplus");
        check("aaabbbcc", "a b c", &running(""), Target::FairShare, "take · surplus");
        check("aaabb---", "a b c", &running(""), Target::FairShare, "take · surplus");
        check("aaaabbbb-", "a b c", &running(""), Target::FairShare, "take · surplus 3");
        check("aaaaaaaa", "a b~", &running(""), Target::FairShare, "take · surplus");
    }

    #[test]
    fn expired_leases_are_taken_and_running_ones_are_not() {
        check("bbbbBBBB", "a b~", &running(""), Target::FairShare, "take 4 5 6 7 · surplus");
        check("bbbbbbbb", "a b", &running(""), Target::FairShare, "take · surplus");
    }

    #[test]
    fn a_dead_owner_is_succeeded_at_once_at_boot() {
        check("bbbbbbbb", "a b!", &booting(), Target::FairShare, "take 0 1 2 3 4 5 6 7 · surplus");
        check("bbbbbbbb", "a", &booting(), Target::FairShare, "take 0 1 2 3 4 5 6 7 · surplus");
    }

    #[test]
    fn while_running_a_dead_owner_must_be_seen_twice() {
        check("aaaabbbb", "a b!", &running(""), Target::FairShare, "take · surplus");
        check("aaaabbbb", "a b!", &running("b"), Target::FairShare, "take 4 5 6 7 · surplus");
        let decision = decide(&view("aaaabbbb", "a b!"), uuid('a'), Target::FairShare, &running(""));
        assert_eq!(decision.suspects, HashSet::from([uuid('b')]));
        let decision = decide(&view("aaaabbbb", "a b"), uuid('a'), Target::FairShare, &running("b"));
        assert_eq!((decision.suspects, decision.dead), (HashSet::new(), vec![]));
    }

    #[test]
    fn a_target_limits_what_is_taken() {
        check("--------", "a", &booting(), Target::AtMost(3), "take 0 1 2 · surplus");
        check("aaaaaaaa", "a", &running(""), Target::AtMost(6), "take · surplus 6 7");
        check("aa------", "a", &running(""), Target::Keep, "take · surplus");
        check("aaaaaaaa", "a b", &running(""), Target::Keep, "take · surplus");
    }

    #[test]
    fn instances_that_follow_the_decision_end_up_with_everything_owned_and_nothing_to_move() {
        for instances in 1..=5_usize {
            let names: Vec<char> = ('a'..='z').take(instances).collect();
            let listed = names.iter().map(char::to_string).collect::<Vec<_>>().join(" ");
            let mut owners = vec!['a'; 16];
            for _ in 0..3 {
                for name in &names {
                    let now = view(&owners.iter().collect::<String>(), &listed);
                    let decision = decide(&now, uuid(*name), Target::FairShare, &running(""));
                    decision.take.iter().for_each(|(id, _)| owners[usize::from(id.0)] = *name);
                    decision.surplus.iter().for_each(|id| owners[usize::from(id.0)] = '-');
                }
            }
            assert!(!owners.contains(&'-'), "{instances}: {owners:?}");
            let counts = names.iter().map(|name| owners.iter().filter(|owner| *owner == name).count());
            let (least, most) = (counts.clone().min().unwrap(), counts.max().unwrap());
            assert!(most - least <= 1, "{instances}: {owners:?}");
        }
    }
}
