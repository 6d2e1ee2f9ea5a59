//! Measurements, not tests: `cargo test -p tidemill-replica --test cluster -- --ignored --nocapture`.

use std::{collections::VecDeque, time::Instant};

use tidemill_replica::{Proposal, SnapshotPolicy};
use tokio::time::timeout;

use crate::node::{GROUP, Node, PATIENCE, batch, cluster, leader, leadership, propose, stop};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn how_long_a_failover_takes() {
    let mut nodes = cluster(1, SnapshotPolicy::default()).await;
    let mut times = Vec::new();
    for _ in 0..10 {
        let gone = leader(&nodes, GROUP).await;
        for node in &nodes {
            leadership(&node.group(GROUP), |l| l.leader == Some(nodes[gone].id)).await;
        }
        let started = Instant::now();
        nodes[gone].stop().await;
        let group = nodes[leader(&nodes, GROUP).await].group(GROUP);
        let led = started.elapsed();
        let epoch = timeout(PATIENCE, group.start_epoch())
            .await
            .expect("in time");
        propose(&group, epoch.expect("epoch"), 1, 1, 1)
            .await
            .expect("committed");
        times.push((started.elapsed(), led));
        drop(group);
        nodes[gone].start().await;
    }
    times.sort();
    for (writes, led) in times {
        println!("led after {led:?}, wrote after {writes:?}");
    }
    stop(&mut nodes).await;
}

async fn throughput(nodes: &[Node], in_flight_max: usize, count: u64) {
    let group = nodes[leader(nodes, GROUP).await].group(GROUP);
    let epoch = group.start_epoch().await.expect("epoch");
    let mut in_flight = VecDeque::new();
    let mut times = Vec::new();
    let started = Instant::now();
    for seq in 1..=count {
        if in_flight.len() == in_flight_max {
            let (proposal, at): (Proposal, Instant) = in_flight.pop_front().expect("not empty");
            proposal.await.expect("committed");
            times.push(at.elapsed());
        }
        let proposal = group.propose(batch(GROUP, epoch, seq, seq, seq));
        in_flight.push_back((proposal, Instant::now()));
    }
    for (proposal, at) in in_flight {
        proposal.await.expect("committed");
        times.push(at.elapsed());
    }
    let rate = count as f64 / started.elapsed().as_secs_f64();
    times.sort();
    println!(
        "{} nodes, {in_flight_max} in flight: {rate:.0}/s, p50 {:?}, p99 {:?}",
        nodes.len(),
        times[times.len() / 2],
        times[times.len() * 99 / 100]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn how_fast_batches_commit() {
    let mut one = vec![Node::new(1, SnapshotPolicy::default()).await];
    let members = [one[0].member()];
    one[0]
        .replica()
        .bootstrap(&members, 1)
        .await
        .expect("bootstrap");
    let mut three = cluster(1, SnapshotPolicy::default()).await;
    for nodes in [&one, &three] {
        for (in_flight, count) in [(1, 2_000), (4, 4_000), (64, 20_000)] {
            throughput(nodes, in_flight, count).await;
        }
    }
    stop(&mut one).await;
    stop(&mut three).await;
}
