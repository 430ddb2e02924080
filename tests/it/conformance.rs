//! nats-server and Postgres play the suite that the simulation's servers play: what is simulated is what there is.

use churnd::{
    store::{Config, Store, leases::Role},
    stream::publisher::Publisher,
};

use crate::{conformance_suite as suite, support::Cluster};

#[tokio::test(flavor = "multi_thread")]
async fn nats_server_does_what_the_simulation_reckons_with() {
    let cluster = Cluster::start().await;
    let context = cluster.jetstream().await;
    let publisher = Publisher::new(context.client(), 1);
    suite::log::conforms(&context, &publisher).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_does_what_the_simulation_reckons_with() {
    let cluster = Cluster::start().await;
    let config = Config { url: cluster.postgres_url().into(), lease_seconds: 2, ..Config::default() };
    let store = Store::connect(&config).unwrap();
    store.ensure_partitions(Role::Engine, 4).await.unwrap();
    let one = store.open_session("one").await.unwrap();
    let two = store.open_session("two").await.unwrap();
    suite::tables::conforms(&store, Box::new(one), Box::new(two)).await;
}
