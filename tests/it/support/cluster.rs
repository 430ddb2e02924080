//! A NATS server and a database for one test.
//!
//! Each test has a `nats-server` of its own. The tests of one process share a Postgres; each gets a copy of a database
//! that was migrated once. A test that kills its Postgres asks for one of its own; one that kills NATS nodes, for three.

use std::{
    path::Path,
    sync::{Arc, Weak},
};

use churnd::embedded::{
    nats::{NatsOptions, NatsServer},
    postgres::{PgOptions, Postgres},
    tools::Tools,
};
use tokio::sync::Mutex;

use super::{
    Scratch, daemon,
    disk::Disk,
    nodes::{self, Routes},
};

/// The account that a fresh cluster knows.
pub(crate) const ACCOUNT: &str = "acme";

/// Who owns the tables: no superuser, as at those who run Postgres for others.
pub(crate) const OWNER_ROLE: &str = "churnd_migrate";
/// Whom churnd works as.
pub(crate) const APP_ROLE: &str = "churnd_app";
/// Who reads.
pub(crate) const READ_ROLE: &str = "churnd_ro";
const ROLE_PASSWORD: &str = "of-a-test";

const TEMPLATE: &str = "migrated";

/// The servers of one test, provisioned and migrated, with the account `acme`.
pub(crate) struct Cluster {
    pub(crate) nats: NatsServer,
    /// The other nodes, where there are three.
    peers: Vec<NatsServer>,
    routes: Option<Routes>,
    pub(crate) database: String,
    postgres: Arc<SharedPostgres>,
    scratch: Scratch,
}

/// A Postgres with the directory it lives in, which goes after it.
struct SharedPostgres {
    server: Postgres,
    disk: Option<Disk>,
    _scratch: Scratch,
}

impl Cluster {
    /// Servers for a test that leaves Postgres alone.
    pub(crate) async fn start() -> Self {
        /// Kept as long as any test of this process needs it.
        static SHARED: Mutex<Weak<SharedPostgres>> = Mutex::const_new(Weak::new());
        let mut shared = SHARED.lock().await;
        let postgres = match shared.upgrade() {
            Some(postgres) => postgres,
            None => {
                let postgres = SharedPostgres::start(false).await;
                *shared = Arc::downgrade(&postgres);
                postgres
            }
        };
        let database = format!("test_{}", uuid::Uuid::new_v4().simple());
        postgres.server.create_database(&database, Some(TEMPLATE)).await.unwrap();
        postgres.server.execute(&format!("ALTER DATABASE {database} OWNER TO {OWNER_ROLE}")).await.unwrap();
        drop(shared);
        Self::with(postgres, database, false).await
    }

    /// Servers for a test that also kills, freezes or floods them: a Postgres of its own, and both keep what they have
    /// confirmed.
    pub(crate) async fn start_durable() -> Self {
        Self::with(SharedPostgres::start(true).await, TEMPLATE.to_owned(), true).await
    }

    async fn with(postgres: Arc<SharedPostgres>, database: String, sync_always: bool) -> Self {
        let scratch = if sync_always { Scratch::in_memory() } else { Scratch::new() };
        let options = NatsOptions { sync_always, ..NatsOptions::new(scratch.join("nats")) };
        let nats = NatsServer::start(&tools(), options).unwrap();
        let cluster = Self { nats, peers: Vec::new(), routes: None, database, postgres, scratch };
        cluster.command(&["provision"]).await;
        cluster.command(&["account", "add", ACCOUNT]).await;
        cluster
    }

    /// Three NATS nodes that keep three copies of everything, the ways between them to be cut, and a Postgres; each
    /// server keeps what it has confirmed. Disks of their own, to be filled, where this user may mount them.
    pub(crate) async fn start_of_three() -> Self {
        let postgres = SharedPostgres::start_on(true, true).await;
        let scratch = Scratch::in_memory();
        let (mut peers, routes) = nodes::start(&scratch).await;
        let nats = peers.remove(0);
        let cluster = Self { nats, peers, routes: Some(routes), database: TEMPLATE.to_owned(), postgres, scratch };
        cluster.command(&["provision", "--replicas", "3"]).await;
        cluster.command(&["account", "add", ACCOUNT]).await;
        cluster
    }

    /// All NATS nodes.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = &NatsServer> {
        std::iter::once(&self.nats).chain(&self.peers)
    }

    /// The ways between the nodes, where there are three.
    pub(crate) fn routes(&self) -> &Routes {
        self.routes.as_ref().expect("there are three nodes")
    }

    /// Where clients of NATS connect: all nodes' addresses.
    pub(crate) fn nats_url(&self) -> String {
        self.nodes().map(NatsServer::url).collect::<Vec<_>>().join(",")
    }

    /// The disk that Postgres has for itself, if it has one.
    pub(crate) fn postgres_disk(&self) -> Option<&Disk> {
        self.postgres.disk.as_ref()
    }

    /// The Postgres server that holds the database.
    pub(crate) fn postgres(&self) -> &Postgres {
        &self.postgres.server
    }

    /// Where churnd connects: as a role that works with rows and can do nothing else.
    pub(crate) fn postgres_url(&self) -> String {
        as_role(&self.superuser_url(), APP_ROLE)
    }

    /// Where those connect who look at everything, or change tables.
    pub(crate) fn superuser_url(&self) -> String {
        self.postgres().url_of(&self.database)
    }

    /// A directory of the test's own.
    pub(crate) fn dir(&self) -> &Path {
        self.scratch.path()
    }

    /// The settings that lead a churnd to these servers.
    pub(crate) fn settings(&self) -> Vec<(String, String)> {
        vec![("CHURND__NATS__URL".into(), self.nats_url()), ("CHURND__POSTGRES__URL".into(), self.postgres_url())]
    }

    /// Runs a churnd command on these servers and gives what it printed; it must succeed.
    #[track_caller]
    pub(crate) fn command(&self, arguments: &[&str]) -> impl Future<Output = String> {
        daemon::command(arguments, self.settings())
    }

    /// A connection to the test's database; it ends when the client is dropped.
    pub(crate) async fn sql(&self) -> tokio_postgres::Client {
        let (client, connection) = tokio_postgres::connect(&self.superuser_url(), tokio_postgres::NoTls).await.unwrap();
        daemon::in_background(connection);
        client
    }

    /// A connection to the test's NATS.
    pub(crate) async fn jetstream(&self) -> async_nats::jetstream::Context {
        async_nats::jetstream::new(async_nats::connect(nodes::addresses(&self.nats_url())).await.unwrap())
    }
}

impl SharedPostgres {
    async fn start(durable: bool) -> Arc<Self> {
        Self::start_on(durable, false).await
    }

    async fn start_on(durable: bool, own_disk: bool) -> Arc<Self> {
        let scratch = if durable { Scratch::in_memory() } else { Scratch::new() };
        let disk = own_disk.then(|| Disk::mount(&scratch.join("postgres"))).flatten();
        let options = PgOptions { durable, ..PgOptions::new(scratch.join("postgres")) };
        let server = Postgres::start(&tools(), options).unwrap();
        for (role, rights) in [(OWNER_ROLE, "CREATEROLE"), (APP_ROLE, ""), (READ_ROLE, "")] {
            let create =
                format!("CREATE ROLE {role} LOGIN {rights} NOSUPERUSER NOBYPASSRLS PASSWORD '{ROLE_PASSWORD}'");
            server.execute(&create).await.unwrap();
        }
        server.create_database(TEMPLATE, None).await.unwrap();
        server.execute(&format!("ALTER DATABASE {TEMPLATE} OWNER TO {OWNER_ROLE}")).await.unwrap();
        let url = as_role(&server.url_of(TEMPLATE), OWNER_ROLE);
        let arguments = ["migrate", "--app-role", APP_ROLE, "--read-role", READ_ROLE];
        daemon::command(&arguments, vec![("CHURND__POSTGRES__URL".into(), url)]).await;
        Arc::new(Self { server, disk, _scratch: scratch })
    }
}

/// The same database as another of the tests' roles.
pub(crate) fn as_role(superuser_url: &str, role: &str) -> String {
    let (_, rest) = superuser_url.split_once('@').expect("the superuser has a password");
    format!("postgres://{role}:{ROLE_PASSWORD}@{rest}")
}

/// Where tests find the servers' binaries.
pub(crate) fn tools() -> Tools {
    Tools::from_env("CHURND_NATS_SERVER", "CHURND_PG_BIN")
}
