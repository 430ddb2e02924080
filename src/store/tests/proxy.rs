//! A way to Postgres that is cut at the COMMIT: before it arrives, or before its answer does.

use std::{
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    task::JoinSet,
};

/// What happens to the next COMMIT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    /// It never arrives.
    BeforeIt,
    /// It is carried out, but its answer never arrives.
    BeforeItsAnswer,
}

/// Passes everything on until it is armed; cuts once, then passes again.
pub(super) struct Proxy {
    port: u16,
    armed: Arc<AtomicBool>,
    _tasks: JoinSet<()>,
}

impl Proxy {
    pub(super) async fn start(to: u16, cut: Cut) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let armed = Arc::new(AtomicBool::new(false));
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, to, cut, armed.clone()));
        Self { port, armed, _tasks: tasks }
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    pub(super) fn arm(&self) {
        self.armed.store(true, Ordering::SeqCst);
    }
}

async fn accept(listener: TcpListener, to: u16, cut: Cut, armed: Arc<AtomicBool>) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        let server = TcpStream::connect((Ipv4Addr::LOCALHOST, to)).await.unwrap();
        connections.spawn(pass(client, server, cut, armed.clone()));
    }
}

async fn pass(client: TcpStream, server: TcpStream, cut: Cut, armed: Arc<AtomicBool>) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    tokio::select! {
        () = forth(&mut from_client, &mut to_server, cut, &armed) => {
            // The answer is waited for, so that the server is known to have carried the COMMIT out, and swallowed.
            if cut == Cut::BeforeItsAnswer {
                let mut answer = [0; 1024];
                assert_ne!(from_server.read(&mut answer).await.unwrap(), 0);
            }
        }
        () = back(&mut from_server, &mut to_client) => {}
    }
}

/// Until the client hangs up, or the COMMIT that is to be cut off was met.
async fn forth(from: &mut OwnedReadHalf, to: &mut OwnedWriteHalf, cut: Cut, armed: &AtomicBool) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        let bytes = &buffer[..length];
        let commits = bytes.windows(7).any(|window| window == b"COMMIT\0");
        let cuts = commits && armed.swap(false, Ordering::SeqCst);
        if cuts && cut == Cut::BeforeIt {
            return;
        }
        if to.write_all(bytes).await.is_err() || cuts {
            return;
        }
    }
}

async fn back(from: &mut OwnedReadHalf, to: &mut OwnedWriteHalf) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        if to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}
