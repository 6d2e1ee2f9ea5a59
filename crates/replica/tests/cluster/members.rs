//! New members, snapshots, and callers that are none.

use std::net::SocketAddr;

use tidemill_proto::peer::v1::{StatusRequest, peer_service_client::PeerServiceClient};
use tidemill_replica::{ChangeError, Member, SnapshotPolicy, StartError};
use tidemill_rows::{BatchWriter, Change};
use tidemill_types::{NodeId, PartitionId, Timestamp};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tonic::{Code, Request, transport::Endpoint};

use crate::node::{
    self, CLUSTER, GROUP, Node, PATIENCE, applied, cluster, leader, leadership, propose,
    replicas_are_equal, stop,
};

const SOON: SnapshotPolicy = SnapshotPolicy {
    entries: 40,
    bytes: u64::MAX,
    keep_entries: 10,
};

async fn write(nodes: &[Node], count: u64) {
    let mut left = count;
    // On a busy machine the leader may change under the writer's hands: a new epoch goes on.
    while left > 0 {
        let group = nodes[leader(nodes, GROUP).await].group(GROUP);
        let Ok(epoch) = group.start_epoch().await else {
            continue;
        };
        let batches = left;
        for seq in 1..=batches {
            if propose(&group, epoch, seq, seq, epoch.index).await.is_err() {
                break;
            }
            left -= 1;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_node_joins_by_snapshot_and_becomes_a_voter() {
    let mut nodes = cluster(2, SOON).await;
    write(&nodes, 200).await;
    // The log no longer begins at its beginning: only a snapshot can bring a new node up.
    let at = leader(&nodes, GROUP).await;
    let group = nodes[at].group(GROUP);
    let mut progress = group.applied_changes();
    while group.stats().purged == 0 {
        timeout(PATIENCE, progress.changed())
            .await
            .unwrap_or(Ok(()))
            .expect("group runs");
        if group.stats().purged == 0 {
            write(&nodes, 20).await;
        }
    }
    drop(group);

    let new = Node::new(4, SOON).await;
    let learner = Member {
        voter: false,
        ..new.member()
    };
    // By a node that does not lead everything, as an operator would.
    let via = nodes[(at + 1) % 3].member().peer;
    new.replica().join(&via, &learner).await.expect("join");
    assert_eq!(new.replica().partitions(), 2);
    assert_eq!(new.replica().groups().len(), 3);
    assert_eq!(new.group(GROUP).stats().snapshots_installed, 1);
    nodes.push(new);
    replicas_are_equal(&nodes, GROUP).await;
    assert!(nodes[3].replica().members().contains(&learner));

    nodes[0]
        .replica()
        .add_member(&nodes[3].member())
        .await
        .expect("promote");
    write(&nodes, 20).await;
    for id in 0..=2 {
        replicas_are_equal(&nodes, PartitionId(id)).await;
    }
    assert!(nodes[3].replica().members().contains(&nodes[3].member()));
    let expected = nodes[0].replica().members();
    assert_eq!(nodes[3].replica().members(), expected);

    // With state from a snapshot and a log that was cut.
    nodes[3].stop().await;
    nodes[3].start().await;
    write(&nodes, 20).await;
    replicas_are_equal(&nodes, GROUP).await;

    // It can lead, and it can go.
    nodes[3]
        .replica()
        .transfer_leadership(GROUP, NodeId(4))
        .await
        .expect("transfer");
    write(&nodes, 5).await;
    nodes[0]
        .replica()
        .remove_member(NodeId(4))
        .await
        .expect("remove");
    nodes.pop().expect("node 4").stop().await;
    write(&nodes, 5).await;
    assert_eq!(nodes[1].replica().members().len(), 3);
    stop(&mut nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_log_restarts_with_everything() {
    let mut node = Node::new(1, SOON).await;
    node.replica()
        .bootstrap(&[node.member()], 1)
        .await
        .expect("bootstrap");
    let nodes = std::slice::from_ref(&node);
    write(nodes, 300).await;
    let before = replicas_are_equal(nodes, GROUP).await;
    let last = node.group(GROUP).stats().applied;
    assert!(node.group(GROUP).stats().snapshot > 0);
    node.stop().await;
    node.start().await;
    let group = node.group(GROUP);
    applied(&group, last).await;
    let after = replicas_are_equal(std::slice::from_ref(&node), GROUP).await;
    assert_eq!(after.len(), before.len());
    let rows = |all: &[(Vec<u8>, Vec<u8>)]| all[all.len() - 300..].to_vec();
    assert_eq!(rows(&after), rows(&before));
    drop(group);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_of_many_bytes_is_cut_however_few_its_entries() {
    let by_bytes = SnapshotPolicy {
        entries: u64::MAX,
        bytes: 4_000,
        keep_entries: 1_000_000,
    };
    let mut node = Node::new(1, by_bytes).await;
    node.replica()
        .bootstrap(&[node.member()], 1)
        .await
        .expect("bootstrap");
    let nodes = std::slice::from_ref(&node);
    let purged = async {
        while node.group(GROUP).stats().purged == 0 {
            write(nodes, 50).await;
        }
    };
    timeout(PATIENCE, purged).await.expect("cut in time");
    let rows = replicas_are_equal(nodes, GROUP).await;
    node.stop().await;
    node.start().await;
    let after = replicas_are_equal(std::slice::from_ref(&node), GROUP).await;
    assert_eq!(after.len(), rows.len());
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bootstrap_can_be_repeated_but_not_changed() {
    let mut nodes = cluster(2, SnapshotPolicy::default()).await;
    let members: Vec<_> = nodes.iter().map(Node::member).collect();
    leader(&nodes, GROUP).await;
    for node in &nodes {
        let replica = node.replica();
        replica.bootstrap(&members, 2).await.expect("again");
        assert!(matches!(
            replica.bootstrap(&members, 3).await,
            Err(ChangeError::Conflict(_))
        ));
        assert_eq!(replica.members(), members);
    }
    let replica = nodes[0].replica();
    let mut named_twice = members.clone();
    named_twice[1].id = NodeId(1);
    let mut learner = members.clone();
    learner[1].voter = false;
    let mut no_port = members.clone();
    no_port[1].peer = "127.0.0.1".to_owned();
    for (wrong, partitions) in [
        (&members[..0], 2),
        (&members[1..], 2),
        (&members[..], 0),
        (&named_twice[..], 2),
        (&learner[..], 2),
        (&no_port[..], 2),
    ] {
        assert!(matches!(
            replica.bootstrap(wrong, partitions).await,
            Err(ChangeError::Invalid(_))
        ));
    }
    stop(&mut nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_are_refused_and_harm_nobody() {
    let mut nodes = cluster(1, SnapshotPolicy::default()).await;
    leader(&nodes, GROUP).await;

    // A node of another cluster.
    let dir = tempfile::tempdir().expect("temporary folder");
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let stranger = node::start(NodeId(9), "other", dir.path(), any, SOON)
        .await
        .expect("start");
    let me = Member {
        id: NodeId(9),
        peer: stranger.peer_address().to_string(),
        ..Member::default()
    };
    let refused = stranger.join(&nodes[0].member().peer, &me).await;
    assert!(
        matches!(refused, Err(ChangeError::Conflict(_))),
        "{refused:?}"
    );
    stranger.stop().await;

    // A caller that does not say who it is, one that means another node, and one that does both right.
    let address = format!("http://{}", nodes[1].member().peer);
    let channel = Endpoint::from_shared(address)
        .expect("address")
        .connect_lazy();
    let nameless = PeerServiceClient::new(channel.clone())
        .status(StatusRequest {})
        .await;
    assert_eq!(nameless.expect_err("refused").code(), Code::Unauthenticated);
    let mut mistaken = Request::new(StatusRequest {});
    for (name, value) in [
        ("tidemill-cluster", CLUSTER),
        ("tidemill-node", "1"),
        ("tidemill-to", "3"),
    ] {
        let value = value.parse().expect("metadata");
        mistaken.metadata_mut().insert(name, value);
    }
    let mistaken = PeerServiceClient::new(channel).status(mistaken).await;
    assert_eq!(
        mistaken.expect_err("refused").code(),
        Code::PermissionDenied
    );
    let channel = nodes[0].replica().peer_channel(NodeId(2)).expect("member");
    let status = PeerServiceClient::new(channel)
        .status(StatusRequest {})
        .await
        .expect("answer")
        .into_inner();
    assert_eq!((status.node, status.partitions), (2, 1));
    assert!(nodes[0].replica().peer_channel(NodeId(9)).is_none());

    // Bytes that are no HTTP/2, and HTTP/1.
    for bytes in [
        vec![0xff; 100_000],
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\xff\xff\xff\xff\xff\xff".to_vec(),
    ] {
        let mut stream = TcpStream::connect(nodes[0].member().peer)
            .await
            .expect("connect");
        // The port may hang up while we still talk.
        let _ = stream.write_all(&bytes).await;
        let mut answer = Vec::new();
        let _ = timeout(PATIENCE, stream.read_to_end(&mut answer))
            .await
            .expect("the port hangs up");
    }
    write(&nodes, 10).await;
    replicas_are_equal(&nodes, GROUP).await;
    stop(&mut nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_in_use_is_named() {
    let mut node = Node::new(1, SOON).await;
    let address = node.replica().peer_address();
    let dir = tempfile::tempdir().expect("temporary folder");
    let error = node::start(NodeId(2), CLUSTER, dir.path(), address, SOON)
        .await
        .err()
        .expect("the port is in use");
    assert!(matches!(error, StartError::Listen { .. }));
    assert!(error.to_string().contains(&address.to_string()), "{error}");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_applied_is_not_proposed() {
    let mut node = Node::new(1, SOON).await;
    node.replica()
        .bootstrap(&[node.member()], 1)
        .await
        .expect("bootstrap");
    let group = node.group(GROUP);
    leadership(&group, |l| l.is_self).await;
    let epoch = group.start_epoch().await.expect("epoch");
    let mut large = BatchWriter::new(epoch, 1, Timestamp(1), 1, 0);
    large.push(Change::Put {
        key: b"key",
        value: &vec![0; 21 << 20],
    });
    let error = group.propose(large.finish()).await.expect_err("refused");
    assert_eq!(error.class(), tidemill_types::ErrorClass::Invalid);
    propose(&group, epoch, 1, 1, 1).await.expect("still works");
    drop(group);
    node.stop().await;
}
