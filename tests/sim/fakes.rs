//! The servers in memory play the suite that the real ones play in `tests/it`.

use std::sync::Arc;

use crate::{
    conformance,
    instance::Port,
    log::LogPort,
    story::LEASE,
    tables::{Seat, TablesPort},
    world::World,
};

/// An instance without tasks of its own, in a world without faults.
fn port(world: &Arc<World>, who: usize) -> Port {
    let mut inner = world.lock();
    let body = &mut inner.bodies[who];
    (body.life, body.alive, body.linked) = (1, true, true);
    Port { world: Arc::clone(world), who, life: 1 }
}

#[tokio::test(start_paused = true)]
async fn log_in_memory_does_what_nats_server_does() {
    let world = World::new(1, 16, 1);
    let log = LogPort::of(&port(&world, 0));
    // Alerts stand in the tables before they are published; here there are none to be compared with.
    conformance::log::conforms(&log, &log).await;
}

#[tokio::test(start_paused = true)]
async fn tables_in_memory_do_what_postgres_does() {
    let world = World::new(1, 4, 2);
    let (one, two) = (port(&world, 0), port(&world, 1));
    let ledger = TablesPort::of(&one);
    let first = Seat::open(&one, LEASE).await.unwrap();
    let second = Seat::open(&two, LEASE).await.unwrap();
    conformance::tables::conforms(&ledger, Box::new(first), Box::new(second)).await;
}
