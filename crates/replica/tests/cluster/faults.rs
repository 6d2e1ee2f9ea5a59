//! Leaders that come and go, nodes that stop and start, while batches are proposed.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Instant,
};

use tidemill_replica::{Group, ProposeError, SnapshotPolicy};
use tidemill_rows::Epoch;
use tidemill_types::PartitionId;
use tokio::time::timeout;

use crate::node::{
    GROUP, Node, PATIENCE, batch, cluster, leader, leadership, replicas_are_equal, row_key, rows,
    stop,
};

/// Batches in flight.
const WINDOW: usize = 16;

/// Writes rows 0, 1, 2 and so on as an actor would: each batch is decided on what the ones before have
/// written, none of which may be known to be committed yet.
#[derive(Default)]
struct Writer {
    /// Values are never used twice, so that a row shows which of several tries has written it.
    next_value: u64,
    acknowledged: BTreeMap<u64, u64>,
    epochs: u64,
}

impl Writer {
    /// One epoch: writes until `count` rows are acknowledged, or the epoch ends.
    async fn lead(&mut self, group: &Group, count: usize) {
        let Ok(epoch) = timeout(PATIENCE, group.start_epoch())
            .await
            .expect("in time")
        else {
            return;
        };
        self.epochs += 1;
        let mut name = next_row(group);
        let mut seq = 0;
        let mut in_flight = VecDeque::new();
        while self.acknowledged.len() < count {
            while in_flight.len() < WINDOW {
                seq += 1;
                let value = self.next_value;
                self.next_value += 1;
                let proposal = group.propose(batch(GROUP, epoch, seq, name, value));
                in_flight.push_back((name, value, proposal));
                name += 1;
            }
            let (name, value, proposal) = in_flight.pop_front().expect("not empty");
            match timeout(PATIENCE, proposal).await.expect("outcome in time") {
                Ok(_) => {
                    let before = self.acknowledged.insert(name, value);
                    assert_eq!(before, None, "row {name} was acknowledged twice");
                }
                Err(error) => {
                    assert!(!matches!(error, ProposeError::Stopped { .. }), "{error}");
                    return;
                }
            }
        }
    }

    /// Leads wherever there is a leader until `count` rows are acknowledged.
    async fn write(&mut self, nodes: &[Node], count: usize) {
        while self.acknowledged.len() < count {
            let at = leader(nodes, GROUP).await;
            self.lead(&nodes[at].group(GROUP), count).await;
        }
    }

    /// Everything acknowledged is there, and there is no gap: nothing was applied to other state than it
    /// was decided on.
    fn check(&self, rows: &[(Vec<u8>, Vec<u8>)]) {
        let prefix = row_key(GROUP, 0)[..3].to_vec();
        let mut found = Vec::new();
        for (key, value) in rows.iter().filter(|(key, _)| key.starts_with(&prefix)) {
            let name = u64::from_be_bytes(key[3..].try_into().expect("8 bytes"));
            assert_eq!(name, found.len() as u64, "a row is missing");
            found.push(u64::from_be_bytes(value[..].try_into().expect("8 bytes")));
        }
        for (name, value) in &self.acknowledged {
            let row = usize::try_from(*name).expect("small");
            assert_eq!(found.get(row), Some(value), "row {name}");
        }
    }
}

fn next_row(group: &Group) -> u64 {
    let prefix = row_key(GROUP, 0)[..3].to_vec();
    let state = rows(&group.state());
    let rows = state.iter().filter(|(key, _)| key.starts_with(&prefix));
    rows.count() as u64
}

async fn transfer(nodes: &[Node]) {
    let from = leader(nodes, GROUP).await;
    let to = (0..nodes.len())
        .find(|at| *at != from && nodes[*at].is_running())
        .expect("another node");
    let started = Instant::now();
    let asked = nodes[from]
        .replica()
        .transfer_leadership(GROUP, nodes[to].id)
        .await;
    println!(
        "transfer {}: {asked:?} in {:?}",
        nodes[to].id,
        started.elapsed()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_batches_while_leaders_come_and_go() {
    let mut nodes = cluster(1, SnapshotPolicy::default()).await;
    let mut writer = Writer::default();
    writer.write(&nodes, 150).await;
    transfer(&nodes).await;
    writer.write(&nodes, 300).await;

    // The leader goes without handing over, and comes back.
    let gone = leader(&nodes, GROUP).await;
    let before = nodes[gone].group(GROUP).stats().term;
    let started = Instant::now();
    nodes[gone].stop().await;
    println!("failover: stopped after {:?}", started.elapsed());
    let at = leader(&nodes, GROUP).await;
    println!("failover: another leader after {:?}", started.elapsed());
    let group = nodes[at].group(GROUP);
    timeout(PATIENCE, group.start_epoch())
        .await
        .expect("epoch in time")
        .expect("epoch");
    println!("failover: it writes after {:?}", started.elapsed());
    assert!(group.stats().term > before);
    drop(group);
    writer.write(&nodes, 500).await;
    nodes[gone].start().await;
    leadership(&nodes[gone].group(GROUP), |l| l.leader.is_some()).await;

    // While batches are on their way.
    let group = nodes[leader(&nodes, GROUP).await].group(GROUP);
    tokio::join!(transfer(&nodes), writer.lead(&group, 700));
    drop(group);
    writer.write(&nodes, 700).await;

    // A follower goes, and comes back.
    let at = leader(&nodes, GROUP).await;
    nodes[(at + 1) % 3].stop().await;
    writer.write(&nodes, 850).await;
    nodes[(at + 1) % 3].start().await;
    writer.write(&nodes, 1_000).await;

    let rows = replicas_are_equal(&nodes, GROUP).await;
    writer.check(&rows);
    replicas_are_equal(&nodes, PartitionId::CATALOG).await;

    // All at once.
    for node in &mut nodes {
        node.stop().await;
    }
    for node in &mut nodes {
        node.start().await;
        assert_eq!(node.replica().partitions(), 1);
    }
    writer.write(&nodes, 1_050).await;
    let rows = replicas_are_equal(&nodes, GROUP).await;
    writer.check(&rows);
    println!("{} epochs", writer.epochs);
    stop(&mut nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drained_node_hands_everything_over() {
    let mut nodes = cluster(3, SnapshotPolicy::default()).await;
    let groups: Vec<_> = (0..=3).map(PartitionId).collect();
    for id in &groups {
        leader(&nodes, *id).await;
    }
    let at = leader(&nodes, GROUP).await;
    let started = Instant::now();
    nodes[at].replica().drain().await;
    println!("drained in {:?}", started.elapsed());
    nodes[at].stop().await;
    for id in &groups {
        leader(&nodes, *id).await;
    }
    println!("all led by others after {:?}", started.elapsed());
    stop(&mut nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_without_a_quorum_says_so() {
    let mut nodes = cluster(1, SnapshotPolicy::default()).await;
    let at = leader(&nodes, GROUP).await;
    for (other, node) in nodes.iter_mut().enumerate() {
        if other != at {
            node.stop().await;
        }
    }
    let group = nodes[at].group(GROUP);
    let before = leadership(&group, |l| !l.is_self).await;
    assert_eq!(before.leader, None);
    assert!(group.read_barrier().await.is_err());
    assert!(matches!(
        group.start_epoch().await,
        Err(ProposeError::NotLeader { .. })
    ));
    // Restarted, it does not take its memory of a leader for news.
    drop(group);
    nodes[at].stop().await;
    nodes[at].start().await;
    assert_eq!(nodes[at].group(GROUP).leadership().borrow().leader, None);
    let other = (at + 1) % 3;
    nodes[other].start().await;
    leader(&nodes, GROUP).await;
    let epoch: Epoch = nodes[leader(&nodes, GROUP).await]
        .group(GROUP)
        .start_epoch()
        .await
        .expect("epoch");
    assert!(epoch.term > before.term);
    stop(&mut nodes).await;
}
