//! A fault proxy: the way from one part of the system to another, to be cut, halved, slowed and closed on command.
//!
//! Each link listens on a port of its own and passes everything on, until it is told otherwise. On a way to Postgres it
//! can also cut exactly at a COMMIT.

use std::{
    collections::VecDeque,
    io,
    net::Ipv4Addr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    sync::watch,
    task::JoinSet,
};

use super::frames::Frames;

/// Which half of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// From who connected to whom it connected to.
    Forth,
    Back,
}

/// What a link does to what passes it.
#[derive(Clone, Debug, Default)]
struct Weather {
    /// Connections that began under a smaller number are reset.
    cuts: u64,
    /// New connections are reset.
    refuses: bool,
    /// What goes this way vanishes, and nobody is told: a connection of which something vanished is reset afterwards.
    swallows: Option<Direction>,
    /// What goes this way waits, and goes on later.
    holds: Option<Direction>,
    /// How long each piece takes.
    delay: Duration,
    /// How much of a piece passes at once.
    piece: Option<usize>,
}

/// What happens to a COMMIT on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// It never arrives.
    BeforeIt,
    /// It is sent, and the connection reset at once: the server may carry it out, or may not.
    BehindIt,
    /// It is carried out, but its answer never arrives.
    BeforeItsAnswer,
}

/// One way through the proxy.
pub(crate) struct Link {
    port: u16,
    shared: Arc<Shared>,
    _accepting: JoinSet<()>,
}

struct Shared {
    target: u16,
    weather: watch::Sender<Weather>,
    /// What happens to the next COMMITs; those after them pass.
    commits: Mutex<VecDeque<Option<Cut>>>,
    commits_cut: AtomicU64,
    open: AtomicU64,
}

impl Link {
    /// A link to a port of this machine.
    pub(crate) async fn to(target: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        Self::over(listener, target)
    }

    /// A link that was bound before it was known where it leads.
    pub(crate) fn over(listener: TcpListener, target: u16) -> Self {
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared {
            target,
            weather: watch::Sender::new(Weather::default()),
            commits: Mutex::default(),
            commits_cut: AtomicU64::new(0),
            open: AtomicU64::new(0),
        });
        let mut accepting = JoinSet::new();
        accepting.spawn(accept(listener, Arc::clone(&shared)));
        Self { port, shared, _accepting: accepting }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Some connection uses it.
    pub(crate) fn is_open(&self) -> bool {
        self.shared.open.load(Ordering::SeqCst) > 0
    }

    /// Resets all connections; new ones are taken. Gives 1 if there was one.
    pub(crate) fn cut(&self) -> u64 {
        let open = self.is_open();
        self.shared.weather.send_modify(|weather| weather.cuts += 1);
        open.into()
    }

    /// What goes one way vanishes until the link is healed.
    pub(crate) fn swallow(&self, direction: Direction) {
        self.shared.weather.send_modify(|weather| weather.swallows = Some(direction));
    }

    /// What goes one way waits in the link until it is healed.
    pub(crate) fn hold(&self, direction: Direction) {
        self.shared.weather.send_modify(|weather| weather.holds = Some(direction));
    }

    /// Each piece takes so long, and is no larger than this.
    pub(crate) fn slow(&self, delay: Duration, piece: usize) {
        self.shared.weather.send_modify(|weather| (weather.delay, weather.piece) = (delay, Some(piece)));
    }

    /// Resets all connections, and all that come, until the link is healed.
    pub(crate) fn close(&self) {
        self.shared.weather.send_modify(|weather| {
            weather.cuts += 1;
            weather.refuses = true;
        });
    }

    /// Passes everything on again.
    pub(crate) fn heal(&self) {
        self.forget_commits();
        self.shared.weather.send_modify(|weather| *weather = Weather { cuts: weather.cuts, ..Weather::default() });
    }

    /// Has the next COMMITs cut, or passed, in this order.
    pub(crate) fn cut_commits(&self, plan: impl IntoIterator<Item = Option<Cut>>) {
        self.shared.commits.lock().unwrap().extend(plan);
    }

    /// Lets all further COMMITs pass.
    pub(crate) fn forget_commits(&self) {
        self.shared.commits.lock().unwrap().clear();
    }

    /// How many COMMITs were cut so far.
    pub(crate) fn commits_cut(&self) -> u64 {
        self.shared.commits_cut.load(Ordering::SeqCst)
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((client, _)) = listener.accept().await else { continue };
        while connections.try_join_next().is_some() {}
        if shared.weather.borrow().refuses {
            reset(client);
            continue;
        }
        let shared = Arc::clone(&shared);
        connections.spawn(async move {
            shared.open.fetch_add(1, Ordering::SeqCst);
            connect_and_pass(client, &shared).await;
            shared.open.fetch_sub(1, Ordering::SeqCst);
        });
    }
}

fn reset(connection: TcpStream) {
    // Whoever hung up already cannot be reset any more.
    drop(connection.set_zero_linger());
}

async fn connect_and_pass(mut client: TcpStream, shared: &Shared) {
    let mut weather = shared.weather.subscribe();
    let born = weather.borrow_and_update().cuts;
    let Ok(mut server) = TcpStream::connect((Ipv4Addr::LOCALHOST, shared.target)).await else {
        return reset(client);
    };
    drop((client.set_nodelay(true), server.set_nodelay(true)));
    let lost = AtomicBool::new(false);
    let ended = {
        let (mut from_client, mut to_client) = client.split();
        let (mut from_server, mut to_server) = server.split();
        tokio::select! {
            ended = forth(&mut from_client, &mut to_server, shared, &lost) => match ended {
                Ok(End::Cut(Cut::BeforeItsAnswer)) => {
                    // The answer is waited for, so that the server is known to have carried the COMMIT out.
                    drop(from_server.read(&mut [0; 64]).await);
                    Ok(End::Cut(Cut::BeforeItsAnswer))
                }
                ended => ended,
            },
            ended = back(&mut from_server, &mut to_client, shared, &lost) => ended,
            () = until_cut(&mut weather, born, &lost) => Err(io::ErrorKind::ConnectionReset.into()),
        }
    };
    if !matches!(ended, Ok(End::HungUp)) {
        reset(client);
        reset(server);
    }
}

/// Why nothing is passed on any more.
enum End {
    HungUp,
    Cut(Cut),
}

/// Resolves when connections of this age are to be reset.
async fn until_cut(weather: &mut watch::Receiver<Weather>, born: u64, lost: &AtomicBool) {
    let cut = |weather: &Weather| weather.cuts > born || (weather.swallows.is_none() && lost.load(Ordering::SeqCst));
    if weather.wait_for(cut).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Until the client hangs up, or a COMMIT is met that is to be cut.
async fn forth(from: &mut ReadHalf<'_>, to: &mut WriteHalf<'_>, shared: &Shared, lost: &AtomicBool) -> io::Result<End> {
    let mut frames = Frames::default();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let length = from.read(&mut buffer).await?;
        if length == 0 {
            return Ok(End::HungUp);
        }
        let bytes = &buffer[..length];
        let commit = frames.find_commit(bytes);
        let cut = commit.and_then(|commit| Some((commit, shared.commits.lock().unwrap().pop_front()??)));
        let Some((commit, cut)) = cut else {
            pass(bytes, to, shared, Direction::Forth, lost).await?;
            continue;
        };
        shared.commits_cut.fetch_add(1, Ordering::SeqCst);
        let passed = if cut == Cut::BeforeIt { commit.begins } else { commit.ends };
        to.write_all(&bytes[..passed]).await?;
        return Ok(End::Cut(cut));
    }
}

/// Until the server hangs up.
async fn back(from: &mut ReadHalf<'_>, to: &mut WriteHalf<'_>, shared: &Shared, lost: &AtomicBool) -> io::Result<End> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let length = from.read(&mut buffer).await?;
        if length == 0 {
            return Ok(End::HungUp);
        }
        pass(&buffer[..length], to, shared, Direction::Back, lost).await?;
    }
}

/// Passes bytes on, as the weather is.
async fn pass(
    mut bytes: &[u8],
    to: &mut WriteHalf<'_>,
    shared: &Shared,
    direction: Direction,
    lost: &AtomicBool,
) -> io::Result<()> {
    while !bytes.is_empty() {
        let mut weather = shared.weather.subscribe();
        drop(weather.wait_for(|weather| weather.holds != Some(direction)).await);
        let (delay, piece) = {
            let weather = shared.weather.borrow();
            if weather.swallows == Some(direction) {
                // Before anybody can heal the link, who then looks at this.
                lost.store(true, Ordering::SeqCst);
                return Ok(());
            }
            (weather.delay, weather.piece.unwrap_or(usize::MAX))
        };
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        let (now, later) = bytes.split_at(piece.min(bytes.len()));
        to.write_all(now).await?;
        bytes = later;
    }
    Ok(())
}
