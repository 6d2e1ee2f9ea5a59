//! Real nodes in one process: openraft, RocksDB, gRPC on loopback.

mod faults;
mod measure;
mod members;
mod node;

use node::{GROUP, Node, cluster, leader, leadership, propose, replicas_are_equal};
use tidemill_replica::{ProposeError, ReadError, SnapshotPolicy};
use tidemill_rows::{Epoch, FenceRefusal};
use tidemill_types::PartitionId;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_single_node_commits_and_restarts() {
    let mut node = Node::new(1, SnapshotPolicy::default()).await;
    assert_eq!(node.replica().partitions(), 0);
    node.replica()
        .bootstrap(&[node.member()], 2)
        .await
        .expect("bootstrap");
    assert_eq!(node.replica().partitions(), 2);
    assert_eq!(node.replica().groups().len(), 3);
    assert_eq!(node.replica().members(), [node.member()]);

    let group = node.group(GROUP);
    leadership(&group, |l| l.is_self).await;
    let epoch = group.start_epoch().await.expect("epoch");
    let first = propose(&group, epoch, 1, 7, 70).await.expect("first");
    let second = propose(&group, epoch, 2, 8, 80).await.expect("second");
    assert_eq!(second.index, first.index + 1);
    group.read_barrier().await.expect("leads");
    let value = group.state().get(&node::row_key(GROUP, 8)).expect("read");
    assert_eq!(value.as_deref(), Some(80_u64.to_be_bytes().as_slice()));

    drop(group);
    node.stop().await;
    node.start().await;
    assert_eq!(node.replica().partitions(), 2);
    let group = node.group(GROUP);
    leadership(&group, |l| l.is_self).await;
    let next = group.start_epoch().await.expect("epoch");
    assert!(next > epoch);
    let value = group.state().get(&node::row_key(GROUP, 7)).expect("read");
    assert_eq!(value.as_deref(), Some(70_u64.to_be_bytes().as_slice()));
    let stats = group.stats();
    assert!(stats.is_leader && stats.fault.is_none());
    drop(group);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_batches_decided_on_this_state_are_applied() {
    let mut nodes = cluster(1, SnapshotPolicy::default()).await;
    let at = leader(&nodes, GROUP).await;
    let group = nodes[at].group(GROUP);
    let first = group.start_epoch().await.expect("epoch");
    propose(&group, first, 1, 1, 1).await.expect("in sequence");
    // As when the batch between was lost.
    assert_eq!(
        propose(&group, first, 3, 1, 3).await,
        Err(ProposeError::Fenced(FenceRefusal::OutOfSequence {
            got: 3,
            expected: 2
        }))
    );
    let second = group.start_epoch().await.expect("epoch");
    assert!(second > first);
    assert_eq!(
        propose(&group, first, 2, 1, 2).await,
        Err(ProposeError::Fenced(FenceRefusal::OtherEpoch {
            got: first,
            current: second
        }))
    );
    propose(&group, second, 1, 1, 4).await.expect("in sequence");
    // Of another term: not even appended.
    let other = Epoch {
        term: second.term + 1,
        ..second
    };
    assert!(matches!(
        propose(&group, other, 2, 1, 5).await,
        Err(ProposeError::NotLeader { .. })
    ));
    assert_eq!(group.stats().fenced, 2);
    let follower = nodes[(at + 1) % 3].group(GROUP);
    assert!(matches!(
        follower.start_epoch().await,
        Err(ProposeError::NotLeader { .. })
    ));
    assert!(matches!(
        follower.read_barrier().await,
        Err(ReadError::NotLeader { .. })
    ));
    let rows = replicas_are_equal(&nodes, GROUP).await;
    let row = rows
        .iter()
        .find(|(key, _)| **key == *node::row_key(GROUP, 1));
    assert_eq!(row.expect("row").1, 4_u64.to_be_bytes());
    replicas_are_equal(&nodes, PartitionId::CATALOG).await;
    drop((group, follower));
    node::stop(&mut nodes).await;
}
