//! Numbers for metrics and for people.

use tidemill_types::{NodeId, PartitionId};

/// What a node's replica has done since it started, and where it stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReplicaStats {
    /// By group.
    pub groups: Vec<GroupStats>,
    /// By peer.
    pub peers: Vec<PeerStats>,
}

/// One group on this node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupStats {
    /// The group.
    pub id: PartitionId,
    /// The current term.
    pub term: u64,
    /// Who leads, as far as this node knows.
    pub leader: Option<NodeId>,
    /// This node leads.
    pub is_leader: bool,
    /// Index of the last log entry.
    pub last_log: u64,
    /// Index of the last entry applied.
    pub applied: u64,
    /// Index of the last entry in a durable snapshot.
    pub snapshot: u64,
    /// Index of the last entry cut from the log.
    pub purged: u64,
    /// Batches proposed here.
    pub proposed: u64,
    /// Batches proposed here and applied.
    pub committed: u64,
    /// Batches that the fence dropped, whoever proposed them.
    pub fenced: u64,
    /// Snapshots sent to other nodes.
    pub snapshots_sent: u64,
    /// Snapshots received and installed.
    pub snapshots_installed: u64,
    /// Why the group has stopped on this node.
    pub fault: Option<String>,
}

/// One other node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerStats {
    /// The node.
    pub id: NodeId,
    /// Append messages sent.
    pub appends_sent: u64,
    /// Heartbeat messages sent; each carries those of several groups.
    pub heartbeats_sent: u64,
    /// Calls that failed.
    pub failures: u64,
}
