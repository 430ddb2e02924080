use std::net::TcpListener;

use super::*;
use crate::{
    event::ids::StreamSequence,
    stream::reader::{Reader, ReaderConfig},
};

const NODES: usize = 3;

/// Three servers of one cluster.
fn cluster() -> Vec<Server> {
    let held: Vec<TcpListener> = (0..NODES).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let ports: Vec<u16> = held.iter().map(|listener| listener.local_addr().unwrap().port()).collect();
    drop(held);
    let routes: Vec<String> = ports.iter().map(|port| format!("\"nats://127.0.0.1:{port}\"")).collect();
    let extra = |port| format!("cluster {{ name: c, listen: \"127.0.0.1:{port}\", routes: [{}] }}", routes.join(", "));
    ports.into_iter().map(|port| Server::with(&extra(port))).collect()
}

async fn provision(context: &Context) {
    within(async {
        while declared(16).with_replicas(3).apply(context).await.is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_loses_each_node_in_turn_loses_and_repeats_nothing() {
    const COUNT: usize = 6_000;
    let nodes = cluster();
    let urls: Vec<String> = nodes.iter().map(|node| node.nats.url()).collect();
    let client = connect(&Config::at(urls.join(",")), "test").await.unwrap();
    let context = jetstream::new(client.clone());
    provision(&context).await;
    assert_eq!(declared(16).with_replicas(3).plan(&context).await.unwrap(), []);

    let publisher = Publisher::new(client, 32).with_patience(2 * PATIENCE);
    let publishing =
        publisher.publish_all((0..COUNT).map(|number| event(number, 50).with_id(format!("acme:{number}"))));
    let reading = async {
        let mut reader = Reader::open(&context, EVENTS, ReaderConfig::new("churnd-test", StreamSequence(0)));
        let (mut sequence, mut killed) = (0, 0);
        while sequence < u64::try_from(COUNT).unwrap() {
            for message in within(reader.next_batch()).await.unwrap().messages {
                sequence += 1;
                assert_eq!(message.sequence.0, sequence);
            }
            if killed < NODES && sequence >= u64::try_from((killed + 1) * COUNT / 5).unwrap() {
                tokio::task::block_in_place(|| nodes[killed].crash());
                killed += 1;
            }
        }
        killed
    };
    let (results, killed) = tokio::join!(publishing, reading);
    assert_eq!(killed, NODES);
    assert!(results.iter().all(Result::is_ok));
    assert_eq!(last_sequence(&context).await, u64::try_from(COUNT).unwrap(), "ids make repeats harmless");
}
