//! Postgres, as the worker, the outbox and the lease rounds meet it: four partitions, the account `acme`, nothing stored.

use std::{fmt::Write as _, time::Duration};

use churnd::{
    engine::checkpoint::{Checkpoint, Counters, Level, OutboxKind, OutboxRow, ScoreRow, StateRow, Status},
    event::{
        ids::{AccountId, CustomerId, Epoch, PartitionId, StreamSequence},
        time::Timestamp,
    },
    store::{
        StoreError,
        checkpoint::{CheckpointWrite, PartWrite},
        leases::{Leases, Role, Target},
        ledger::{Ledger, Membership},
        partitioning::{Layout, Rewind},
    },
};
use expect_test::expect;

const T: i64 = 1_793_448_600_000;
const HOUR: i64 = 3_600_000;
const T_OF_ANOTHER: Timestamp = Timestamp::from_millis(T - HOUR);

/// Plays the suite: two sessions, the first of which looks around first.
pub(crate) async fn conforms(ledger: &dyn Ledger, one: Box<dyn Membership>, two: Box<dyn Membership>) {
    let accounts = ledger.known_accounts().await.unwrap();
    assert!(accounts.contains(&AccountId::parse("acme").unwrap()));
    sharing(&*one, &*two).await;
    checkpoints(ledger).await;
    states(ledger).await;
    outbox(ledger).await;
    scores(ledger).await;
    let one = succession(ledger, one, two).await;
    putting_back(ledger, one).await;
}

async fn round(session: &dyn Membership) -> Leases {
    session.acquire_and_renew(Role::Engine, Target::FairShare).await.unwrap()
}

fn tell(leases: &Leases) -> String {
    let held: Vec<String> = leases.held.iter().map(|lease| format!("{}e{}", lease.partition, lease.epoch)).collect();
    let ids = |ids: &[PartitionId]| ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    let gained: Vec<PartitionId> = leases.gained.iter().map(|lease| lease.partition).collect();
    let (gained, lost, surplus) = (ids(&gained), ids(&leases.lost), ids(&leases.surplus));
    format!("holds {} · gained {gained} · lost {lost} · surplus {surplus}\n", held.join(" "))
}

async fn sharing(one: &dyn Membership, two: &dyn Membership) {
    let mut told = tell(&round(one).await);
    told += &tell(&round(two).await);
    told += &tell(&round(one).await);
    for (partition, epoch) in [(2, 1), (3, 1), (3, 1), (2, 9)] {
        let released = one.release(Role::Engine, PartitionId(partition), Epoch(epoch)).await.unwrap();
        writeln!(told, "released {partition} in epoch {epoch}: {released}").unwrap();
    }
    told += &tell(&round(two).await);
    told += &tell(&round(one).await);
    expect![[r#"
        holds p000e1 p001e1 p002e1 p003e1 · gained p000 p001 p002 p003 · lost  · surplus 
        holds  · gained  · lost  · surplus 
        holds p000e1 p001e1 p002e1 p003e1 · gained  · lost  · surplus p002 p003
        released 2 in epoch 1: true
        released 3 in epoch 1: true
        released 3 in epoch 1: false
        released 2 in epoch 9: false
        holds p002e2 p003e2 · gained p002 p003 · lost  · surplus 
        holds p000e1 p001e1 · gained  · lost  · surplus 
    "#]]
    .assert_eq(&told);
}

fn part(partition: u16, epoch: u64, from: u64, to: u64) -> PartWrite {
    let count = to.saturating_sub(from);
    PartWrite {
        epoch: Epoch(epoch),
        from: StreamSequence(from),
        to: StreamSequence(to),
        to_time: Some(Timestamp::from_millis(T)).filter(|_| to.is_multiple_of(2)),
        stream_created: None,
        rules_hash: None,
        checkpoint: Checkpoint {
            partition: PartitionId(partition),
            states: Vec::new(),
            scores: Vec::new(),
            outbox: Vec::new(),
            links: Vec::new(),
            volume: Vec::new(),
            counters: Counters { received: count, applied: count, ..Counters::default() },
        },
        forgotten: Vec::new(),
        unwanted: Vec::new(),
    }
}

fn write(parts: Vec<PartWrite>) -> CheckpointWrite {
    CheckpointWrite::new(parts, Vec::new())
}

async fn store(ledger: &dyn Ledger, write: &CheckpointWrite) -> String {
    match ledger.store_checkpoint(write).await {
        Ok(()) => "stands".to_owned(),
        Err(StoreError::Fenced { partition, epoch }) => format!("{partition} is refused in epoch {epoch}"),
        Err(error) => error.to_string(),
    }
}

async fn rows(ledger: &dyn Ledger) -> String {
    let mut told = String::new();
    for owner in ledger.owners().await.unwrap().iter().filter(|owner| owner.role == Role::Engine) {
        let (partition, epoch, watermark) = (owner.partition, owner.epoch, owner.watermark);
        let timed = owner.watermark_time.is_some();
        write!(told, "{partition}e{epoch} at {watermark} ({} read, time {timed}) ", owner.counters.received).unwrap();
    }
    told
}

async fn checkpoints(ledger: &dyn Ledger) {
    let mut told = String::new();
    let first = write(vec![part(1, 1, 0, 4), part(0, 1, 0, 3)]);
    let steps: [(&str, CheckpointWrite); 9] = [
        ("two partitions", first.clone()),
        ("the same again", first.clone()),
        ("the same under another id", write(first.parts.clone())),
        ("an old epoch", write(vec![part(2, 1, 0, 5)])),
        ("a later epoch", write(vec![part(2, 3, 0, 5)])),
        ("one of two is refused", write(vec![part(0, 1, 3, 6), part(1, 1, 3, 6)])),
        ("nothing was read", write(vec![part(1, 1, 4, 4)])),
        ("it goes on", write(vec![part(0, 1, 3, 7)])),
        ("the first once more", first),
    ];
    for (what, write) in steps {
        let ended = store(ledger, &write).await;
        writeln!(told, "{what}: {ended}").unwrap();
    }
    writeln!(told, "{}", rows(ledger).await).unwrap();
    expect![[r#"
        two partitions: stands
        the same again: stands
        the same under another id: p000 is refused in epoch 1
        an old epoch: p002 is refused in epoch 1
        a later epoch: p002 is refused in epoch 3
        one of two is refused: p001 is refused in epoch 1
        nothing was read: stands
        it goes on: stands
        the first once more: p000 is refused in epoch 1
        p000e1 at 7 (7 read, time false) p001e1 at 4 (4 read, time true) p002e2 at 0 (0 read, time false) p003e2 at 0 (0 read, time false) 
    "#]]
    .assert_eq(&told);
}

fn state(token: &str, score: u8, due_at: Option<i64>, is_new: bool) -> StateRow {
    StateRow {
        account: AccountId::parse("acme").unwrap(),
        token: token.into(),
        customer: CustomerId::parse(token).unwrap(),
        snapshot: vec![score],
        score,
        level: Level::Low,
        status: Status::Active,
        mrr: None,
        due_at: due_at.map(|hours| Timestamp::from_millis(T + hours * HOUR)),
        is_new,
    }
}

async fn states(ledger: &dyn Ledger) {
    let mut one = part(1, 1, 4, 5);
    one.checkpoint.states = vec![
        state("b", 2, Some(1), true),
        state("a", 1, Some(1), true),
        state("d", 4, Some(0), true),
        state("c", 3, None, true),
        state("e", 5, Some(9), true),
    ];
    assert_eq!(store(ledger, &write(vec![one])).await, "stands");
    let mut two = part(1, 1, 5, 6);
    two.checkpoint.states = vec![state("a", 9, Some(1), false), state("f", 6, Some(1), false)];
    assert_eq!(store(ledger, &write(vec![two])).await, "stands");
    let mut told = String::new();
    let mut known = ledger.load_customers(&[("acme", "b"), ("acme", "a"), ("acme", "x"), ("blue", "a")]).await.unwrap();
    known.states.sort_by(|left, right| left.token.cmp(&right.token));
    for row in &known.states {
        writeln!(told, "{} of {} {:?}", row.token, row.partition, row.snapshot).unwrap();
    }
    let names = |rows: &[churnd::store::states::LoadedState]| {
        rows.iter().map(|row| row.token.to_string()).collect::<Vec<_>>().join(" ")
    };
    let page = ledger.load_page(&[PartitionId(1)], None, 3).await.unwrap();
    let rest = ledger.load_page(&[PartitionId(1)], Some(("acme", "c")), 30).await.unwrap();
    let none = ledger.load_page(&[PartitionId(0)], None, 30).await.unwrap();
    writeln!(told, "pages: {} | {} | {}", names(&page), names(&rest), names(&none)).unwrap();
    let (of, hour) = ([PartitionId(0), PartitionId(1)], Timestamp::from_millis(T).hour());
    let due = ledger.load_due(&of, hour + 1, None, 3).await.unwrap();
    let later = ledger.load_due(&of, hour + 1, due.last(), 30).await.unwrap();
    let elsewhere = ledger.load_due(&of[..1], hour + 1, None, 30).await.unwrap();
    for rows in [due, later, elsewhere] {
        let rows: Vec<String> = rows
            .iter()
            .map(|row| format!("{}+{}", row.token, row.due_at.millis_since(Timestamp::from_millis(T)) / HOUR))
            .collect();
        writeln!(told, "due: {}", rows.join(" ")).unwrap();
    }
    expect![[r#"
        a of p001 [9]
        b of p001 [2]
        pages: a b c | d e f | 
        due: d+0 a+1 b+1
        due: f+1
        due: 
    "#]]
    .assert_eq(&told);
}

fn message(id: &str, kind: OutboxKind) -> OutboxRow {
    OutboxRow {
        account: AccountId::parse("acme").unwrap(),
        token: "a".into(),
        customer: CustomerId::parse("a").unwrap(),
        message_id: id.to_owned(),
        subject: format!("churn.alerts.acme.high.a.{id}"),
        body: b"{}".to_vec(),
        kind,
        at: Timestamp::from_millis(T),
    }
}

async fn outbox(ledger: &dyn Ledger) {
    let mut one = part(1, 1, 6, 7);
    one.checkpoint.outbox = vec![
        message("m1", OutboxKind::Alert),
        message("held", OutboxKind::HeldAlert),
        message("m2", OutboxKind::Event),
    ];
    let mut two = part(0, 1, 7, 8);
    two.checkpoint.outbox = vec![message("m3", OutboxKind::Alert)];
    assert_eq!(store(ledger, &write(vec![one, two])).await, "stands");
    let mut again = part(1, 1, 7, 8);
    again.checkpoint.outbox = vec![message("m1", OutboxKind::Alert)];
    let marking = CheckpointWrite::new(vec![again], vec!["m3".to_owned(), "nobody".to_owned()]);
    let mut told = String::new();
    let of = [PartitionId(0), PartitionId(1)];
    tell_waiting(ledger, &of, 0, &mut told).await;
    assert_eq!(store(ledger, &marking).await, "stands");
    tell_waiting(ledger, &of, 0, &mut told).await;
    let first = ledger.load_unpublished(&of, 0, 1).await.unwrap();
    tell_waiting(ledger, &of, first[0].id, &mut told).await;
    tell_waiting(ledger, &of[..1], 0, &mut told).await;
    ledger.mark_published(&["m1".to_owned(), "m1".to_owned()]).await.unwrap();
    tell_waiting(ledger, &of, 0, &mut told).await;
    ledger.mark_published(&["m2".to_owned()]).await.unwrap();
    tell_waiting(ledger, &of, 0, &mut told).await;
    expect![[r#"
        m3 m1 m2 (3 wait, the oldest known: true)
        m1 m2 (2 wait, the oldest known: true)
        m2 (2 wait, the oldest known: true)
         (2 wait, the oldest known: true)
        m2 (1 wait, the oldest known: true)
         (0 wait, the oldest known: false)
    "#]]
    .assert_eq(&told);
}

async fn tell_waiting(ledger: &dyn Ledger, of: &[PartitionId], after: u64, told: &mut String) {
    let rows = ledger.load_unpublished(of, after, 10).await.unwrap();
    let ids: Vec<&str> = rows.iter().map(|row| row.row.message_id.as_str()).collect();
    let pending = ledger.outbox_pending().await.unwrap();
    let known = pending.oldest.is_some();
    writeln!(told, "{} ({} wait, the oldest known: {known})", ids.join(" "), pending.count).unwrap();
}

async fn scores(ledger: &dyn Ledger) {
    let score = |token: &str, score: u8, minutes: i64| ScoreRow {
        account: AccountId::parse("acme").unwrap(),
        token: token.into(),
        customer: CustomerId::parse(token).unwrap(),
        at: Timestamp::from_millis(T + minutes * 60_000),
        score,
        level: Level::Low,
        status: Status::Active,
        factors: Vec::new(),
    };
    let mut one = part(1, 1, 8, 9);
    one.checkpoint.scores = vec![score("a", 1, 5), score("b", 2, 1), score("a", 3, 2)];
    assert_eq!(store(ledger, &write(vec![one])).await, "stands");
    assert_eq!(
        ledger.last_score_at(Layout::new(3), PartitionId(1)).await.unwrap(),
        Some(Timestamp::from_millis(T + 120_000))
    );
    assert_eq!(ledger.last_score_at(Layout::new(3), PartitionId(0)).await.unwrap(), None);
    let mut told = String::new();
    for since in [0, 2, 6] {
        let since = Timestamp::from_millis(T + since * 60_000);
        let mut after = None;
        loop {
            let partitions = [PartitionId(1), PartitionId(2)];
            let last = after.as_ref().map(|(account, token): &(String, String)| (&**account, &**token));
            let rows = ledger.recent_scores(&partitions, since, last, 1).await.unwrap();
            let Some(row) = rows.first() else { break };
            write!(told, "{}={} ", row.token, row.score).unwrap();
            after = Some((row.account.to_string(), row.token.to_string()));
        }
        told.push_str("end\n");
    }
    expect![[r#"
        a=3 b=2 end
        a=3 end
        end
    "#]]
    .assert_eq(&told);
}

/// The first session falls silent: the second takes over when the leases are over, and the first writes nothing more.
async fn succession(ledger: &dyn Ledger, one: Box<dyn Membership>, two: Box<dyn Membership>) -> Box<dyn Membership> {
    let mut held = round(&*two).await;
    while held.held.len() < 4 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        held = round(&*two).await;
    }
    let mut told = String::new();
    let ended = store(ledger, &write(vec![part(0, 1, 8, 10)])).await;
    writeln!(told, "the old owner: {ended}").unwrap();
    let ended = store(ledger, &write(vec![part(0, 2, 8, 10)])).await;
    writeln!(told, "the new owner: {ended}").unwrap();
    let woken = round(&*one).await;
    writeln!(told, "the old one holds {} and lost {}", woken.held.len(), woken.lost.len()).unwrap();
    two.close().await.unwrap();
    let taken = round(&*one).await;
    writeln!(told, "after the other left it holds {}, from epoch {}", taken.held.len(), taken.held[0].epoch).unwrap();
    writeln!(told, "and goes on after {}", taken.held[0].watermark).unwrap();
    expect![[r#"
        the old owner: p000 is refused in epoch 1
        the new owner: stands
        the old one holds 0 and lost 2
        after the other left it holds 4, from epoch 3
        and goes on after 10
    "#]]
    .assert_eq(&told);
    one
}

/// The stream was rolled back: all partitions that count in it are put back, and taken from their owner.
async fn putting_back(ledger: &dyn Ledger, owner: Box<dyn Membership>) {
    let epochs =
        ledger.owners().await.unwrap().iter().filter(|row| row.role == Role::Engine).map(|row| row.epoch.0).sum();
    let anew = Timestamp::from_millis(T + HOUR);
    let rewind = Rewind { stream_created: None, created_anew: Some(anew), to: StreamSequence(7), epochs };
    let mut told = rows(ledger).await + "\n";
    for (what, rewind) in [
        ("one changed hands meanwhile", Rewind { epochs: epochs - 1, ..rewind }),
        ("this stream", rewind),
        ("another stream", Rewind { stream_created: Some(T_OF_ANOTHER), epochs: epochs + 4, ..rewind }),
    ] {
        let done = ledger.rewind(&rewind).await.unwrap();
        writeln!(told, "{what}: {done}, {}", rows(ledger).await).unwrap();
    }
    let ended = store(ledger, &write(vec![part(0, 3, 7, 12)])).await;
    writeln!(told, "the owner: {ended}").unwrap();
    let again = round(&*owner).await;
    let created = again.held[0].stream_created == Some(anew);
    writeln!(
        told,
        "gained {} from epoch {}, the stream's creation: {created}",
        again.gained.len(),
        again.held[0].epoch
    )
    .unwrap();
    let ended = store(ledger, &write(vec![part(0, 6, 7, 12)])).await;
    writeln!(told, "the new lease: {ended}").unwrap();
    expect![[r#"
        p000e3 at 10 (10 read, time true) p001e3 at 9 (9 read, time false) p002e3 at 0 (0 read, time false) p003e3 at 0 (0 read, time false) 
        one changed hands meanwhile: false, p000e3 at 10 (10 read, time true) p001e3 at 9 (9 read, time false) p002e3 at 0 (0 read, time false) p003e3 at 0 (0 read, time false) 
        this stream: true, p000e4 at 7 (10 read, time false) p001e4 at 7 (9 read, time false) p002e4 at 0 (0 read, time false) p003e4 at 0 (0 read, time false) 
        another stream: true, p000e5 at 7 (10 read, time false) p001e5 at 7 (9 read, time false) p002e5 at 0 (0 read, time false) p003e5 at 0 (0 read, time false) 
        the owner: p000 is refused in epoch 3
        gained 4 from epoch 6, the stream's creation: true
        the new lease: stands
    "#]]
    .assert_eq(&told);
    owner.close().await.unwrap();
}
