//! Nodes in this process, on loopback, over real stores in temporary folders.

use std::{net::SocketAddr, ops::ControlFlow, path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use tempfile::TempDir;
use tidemill_replica::{
    Committed, Group, Leadership, Member, ProposeError, Replica, ReplicaConfig, SnapshotPolicy,
    StartError,
};
use tidemill_rows::{Batch, EncodedBatch, Epoch, Key, Mutation, Table, key};
use tidemill_store::{NodeStore, StateStore, StoreIdentity, StoreOptions};
use tidemill_types::{NodeId, PartitionId, Timestamp};
use tokio::time::timeout;
use tonic::service::Routes;

pub const CLUSTER: &str = "test";
/// No condition here takes a tenth of it, unless it never comes.
pub const PATIENCE: Duration = Duration::from_secs(20);
pub const GROUP: PartitionId = PartitionId(1);

pub struct Node {
    pub id: NodeId,
    dir: TempDir,
    address: SocketAddr,
    pub snapshot: SnapshotPolicy,
    running: Option<Arc<Replica>>,
}

pub async fn start(
    id: NodeId,
    cluster: &str,
    dir: &Path,
    address: SocketAddr,
    snapshot: SnapshotPolicy,
) -> Result<Arc<Replica>, StartError> {
    let identity = StoreIdentity::new(cluster, id);
    let store = loop {
        match NodeStore::open(dir, &identity, StoreOptions::default()) {
            Ok(store) => break store,
            // A node that was dropped frees its folder when its last task has ended.
            Err(tidemill_store::OpenError::Locked { .. }) => tokio::task::yield_now().await,
            Err(error) => panic!("{error}"),
        }
    };
    let mut config = ReplicaConfig::new(id, cluster, address);
    config.snapshot = snapshot;
    Replica::start(config, store, Routes::default()).await
}

impl Node {
    /// A new node on a free port.
    pub async fn new(id: u64, snapshot: SnapshotPolicy) -> Self {
        let mut node = Self {
            id: NodeId(id),
            dir: tempfile::tempdir().expect("temporary folder"),
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            snapshot,
            running: None,
        };
        node.start().await;
        node.address = node.replica().peer_address();
        node
    }

    pub async fn start(&mut self) {
        let started = start(
            self.id,
            CLUSTER,
            self.dir.path(),
            self.address,
            self.snapshot,
        );
        self.running = Some(started.await.expect("start"));
    }

    pub async fn stop(&mut self) {
        if let Some(replica) = self.running.take() {
            replica.stop().await;
        }
    }

    pub fn is_running(&self) -> bool {
        self.running.is_some()
    }

    pub fn replica(&self) -> &Arc<Replica> {
        self.running.as_ref().expect("running")
    }

    pub fn group(&self, id: PartitionId) -> Group {
        self.replica().group(id).expect("group")
    }

    pub fn member(&self) -> Member {
        Member {
            id: self.id,
            peer: self.address.to_string(),
            grpc: format!("127.0.0.1:{}", 7000 + self.id.0),
            http: String::new(),
            voter: true,
        }
    }
}

/// Three nodes that have made a cluster, all at the same time.
pub async fn cluster(partitions: u16, snapshot: SnapshotPolicy) -> Vec<Node> {
    let mut nodes = Vec::new();
    for id in 1..=3 {
        nodes.push(Node::new(id, snapshot).await);
    }
    let members: Vec<_> = nodes.iter().map(Node::member).collect();
    let made = nodes
        .iter()
        .map(|node| node.replica().bootstrap(&members, partitions));
    for made in futures::future::join_all(made).await {
        made.expect("bootstrap");
    }
    nodes
}

/// Stops all nodes, so that their folders are removed only after they are closed.
pub async fn stop(nodes: &mut [Node]) {
    futures::future::join_all(nodes.iter_mut().map(Node::stop)).await;
}

/// Waits for a condition on the leadership as one node sees it.
pub async fn leadership(group: &Group, holds: impl Fn(&Leadership) -> bool) -> Leadership {
    let mut leadership = group.leadership();
    *timeout(PATIENCE, leadership.wait_for(|l| holds(l)))
        .await
        .expect("leadership in time")
        .expect("group runs")
}

/// The running node that leads.
pub async fn leader(nodes: &[Node], id: PartitionId) -> usize {
    let waits = nodes
        .iter()
        .enumerate()
        .filter(|(_, node)| node.is_running())
        .map(|(i, node)| {
            let group = node.group(id);
            Box::pin(async move {
                leadership(&group, |l| l.is_self).await;
                i
            })
        });
    futures::future::select_all(waits).await.0
}

pub fn row_key(id: PartitionId, name: u64) -> Key {
    let mut key = key::start(id, Table::Execution);
    key.put_u64(name);
    key.freeze()
}

pub fn batch(id: PartitionId, epoch: Epoch, seq: u64, name: u64, value: u64) -> EncodedBatch {
    Batch {
        epoch,
        seq,
        time: Timestamp(i64::try_from(seq).expect("small")),
        mutations: vec![Mutation::Put {
            key: row_key(id, name),
            value: Bytes::copy_from_slice(&value.to_be_bytes()),
        }],
    }
    .encoded()
}

pub async fn propose(
    group: &Group,
    epoch: Epoch,
    seq: u64,
    name: u64,
    value: u64,
) -> Result<Committed, ProposeError> {
    let proposal = group.propose(batch(group.id(), epoch, seq, name, value));
    timeout(PATIENCE, proposal).await.expect("outcome in time")
}

/// All rows, and where they begin to differ when they do.
pub fn rows(state: &StateStore) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut rows = Vec::new();
    state
        .visit(&[], &[0xff; 8], |key, value| {
            rows.push((key.to_vec(), value.to_vec()));
            ControlFlow::Continue(())
        })
        .expect("scan");
    rows
}

/// Waits until all running nodes have applied the same, then compares every byte.
pub async fn replicas_are_equal(nodes: &[Node], id: PartitionId) -> Vec<(Vec<u8>, Vec<u8>)> {
    let leader = leader(nodes, id).await;
    // A barrier in the log: everything before it is in all states that have applied it.
    let group = nodes[leader].group(id);
    let epoch = timeout(PATIENCE, group.start_epoch())
        .await
        .expect("epoch in time")
        .expect("epoch");
    let expected = rows(&group.state());
    for node in nodes.iter().filter(|node| node.is_running()) {
        let group = node.group(id);
        applied(&group, epoch.index).await;
        assert!(rows(&group.state()) == expected, "node {} differs", node.id);
    }
    expected
}

pub async fn applied(group: &Group, index: u64) {
    let mut applied = group.applied_changes();
    timeout(PATIENCE, applied.wait_for(|applied| *applied >= index))
        .await
        .expect("applied in time")
        .expect("group runs");
}
