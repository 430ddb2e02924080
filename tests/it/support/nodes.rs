//! Three NATS servers that are one cluster, each way between two of them a link of its own.

use std::{net::Ipv4Addr, time::Duration};

use churnd::embedded::nats::{NatsOptions, NatsServer};

use super::{Scratch, cluster::tools, disk::Disk, eventually, proxy::Link};

pub(crate) const NODES: usize = 3;

/// The ways between the nodes, and the disks that nodes have for themselves.
pub(crate) struct Routes {
    /// From each node to each other, by the number of both.
    ways: Vec<(usize, usize, Link)>,
    disks: Vec<Option<Disk>>,
}

impl Routes {
    /// All ways from and to a node.
    pub(crate) fn of(&self, node: usize) -> impl Iterator<Item = &Link> {
        self.ways.iter().filter(move |(from, to, _)| [*from, *to].contains(&node)).map(|(_, _, link)| link)
    }

    /// Both ways between two nodes.
    pub(crate) fn between(&self, one: usize, other: usize) -> impl Iterator<Item = &Link> {
        let meant = move |(from, to, _): &&(usize, usize, Link)| {
            (*from == one && *to == other) || (*from == other && *to == one)
        };
        self.ways.iter().filter(meant).map(|(_, _, link)| link)
    }

    /// A node's own disk, if it has one.
    pub(crate) fn disk(&self, node: usize) -> Option<&Disk> {
        self.disks[node].as_ref()
    }
}

/// Starts the servers; they sync each write to disk before they confirm it.
pub(super) async fn start(scratch: &Scratch) -> (Vec<NatsServer>, Routes) {
    let ports: Vec<u16> = std::iter::repeat_with(free_port).take(NODES).collect();
    let mut ways = Vec::new();
    for from in 0..NODES {
        for to in (0..NODES).filter(|to| *to != from) {
            ways.push((from, to, Link::to(ports[to]).await));
        }
    }
    let (mut servers, mut disks) = (Vec::new(), Vec::new());
    for (node, port) in ports.iter().enumerate() {
        let routes: Vec<String> = ways
            .iter()
            .filter(|(from, _, _)| *from == node)
            .map(|(_, _, link)| format!("\"nats://127.0.0.1:{}\"", link.port()))
            .collect();
        // Nobody is told another address than that of a link: neither clients nor other nodes.
        let extra = format!(
            "cluster {{\n  name: churn\n  listen: \"127.0.0.1:{port}\"\n  advertise: \"127.0.0.1:1\"\n  \
             no_advertise: true\n  routes: [{}]\n}}",
            routes.join(", ")
        );
        let dir = scratch.join(&format!("nats-{node}"));
        disks.push(Disk::mount(&dir));
        let name = Some(format!("churn-{node}"));
        let options = NatsOptions { name, sync_always: true, extra, ..NatsOptions::new(dir) };
        servers.push(NatsServer::start(&tools(), options).unwrap());
    }
    wait_for_leader(&servers).await;
    (servers, Routes { ways, disks })
}

/// Nodes that greet have not found each other yet.
async fn wait_for_leader(servers: &[NatsServer]) {
    let url: Vec<String> = servers.iter().map(NatsServer::url).collect();
    let client = async_nats::connect(addresses(&url.join(","))).await.unwrap();
    eventually(Duration::from_secs(60), async || match client.request("$JS.API.STREAM.NAMES", "".into()).await {
        Ok(answer) if !answer.payload.windows(7).any(|window| window == b"\"error\"") => Ok(()),
        Ok(answer) => Err(String::from_utf8_lossy(&answer.payload).into_owned()),
        Err(error) => Err(format!("{error}; {}", std::fs::read_to_string(servers[0].log_path()).unwrap())),
    })
    .await;
}

/// The addresses in a list of them.
pub(crate) fn addresses(list: &str) -> Vec<async_nats::ServerAddr> {
    list.split(',').map(|one| one.parse().unwrap()).collect()
}

/// Not one that the kernel gives to outgoing connections: those would take it while its server is down.
fn free_port() -> u16 {
    loop {
        let port = rand::random_range(10_000..32_000);
        if std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}

/// Links to each of these servers, as one list of addresses.
pub(crate) async fn links_to(servers: impl Iterator<Item = &NatsServer>) -> (Vec<Link>, String) {
    let mut links = Vec::new();
    for server in servers {
        links.push(Link::to(server.port()).await);
    }
    let url: Vec<String> = links.iter().map(|link| format!("nats://127.0.0.1:{}", link.port())).collect();
    (links, url.join(","))
}
