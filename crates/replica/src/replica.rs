//! All groups of one node.

use std::{net::SocketAddr, sync::Arc};

use tidemill_types::{NodeId, PartitionId};
use tonic::{service::Routes, transport::Channel};

use crate::{ChangeError, Group, Member, ReplicaConfig, ReplicaStats, StartError};

/// All groups of one node, its peer port and its connections to the other nodes.
pub struct Replica {
    config: ReplicaConfig,
}

impl Replica {
    /// Opens the groups that are stored (none on a new node), and serves the peer port; `services`
    /// are served on it too.
    ///
    /// # Errors
    /// [`StartError`]
    pub async fn start(config: ReplicaConfig, _services: Routes) -> Result<Arc<Self>, StartError> {
        config.check()?;
        Ok(Arc::new(Self { config }))
    }

    /// Where the peer port listens.
    #[must_use]
    pub fn peer_address(&self) -> SocketAddr {
        self.config.peer_listen
    }

    /// This node.
    #[must_use]
    pub fn node(&self) -> NodeId {
        self.config.node
    }

    /// Makes the cluster: the catalog and groups 1 to `partitions`, all with the same members. Every
    /// one of them may call it, at any time, again and again, with the same list.
    ///
    /// # Errors
    /// [`ChangeError`]
    pub async fn bootstrap(
        &self,
        _members: &[Member],
        _partitions: u16,
    ) -> Result<(), ChangeError> {
        Err(ChangeError::Unavailable("not started".into()))
    }

    /// Adds this node to every group of the cluster that the node at `via` (its peer address)
    /// belongs to; returns when it has caught up (and votes, when `me.voter`).
    ///
    /// # Errors
    /// [`ChangeError`]
    pub async fn join(&self, _via: &str, _me: Member) -> Result<(), ChangeError> {
        Err(ChangeError::Unavailable("not started".into()))
    }

    /// Adds a node that runs, or makes a learner vote; in every group.
    ///
    /// # Errors
    /// [`ChangeError`]
    pub async fn add_member(&self, _member: Member) -> Result<(), ChangeError> {
        Err(ChangeError::Unavailable("not started".into()))
    }

    /// Takes a node out of every group.
    ///
    /// # Errors
    /// [`ChangeError`]
    pub async fn remove_member(&self, _node: NodeId) -> Result<(), ChangeError> {
        Err(ChangeError::Unavailable("not started".into()))
    }

    /// Hands a group that this node leads over to another voter; returns when that one leads.
    ///
    /// # Errors
    /// [`ChangeError`]
    pub async fn transfer_leadership(
        &self,
        _group: PartitionId,
        _to: NodeId,
    ) -> Result<(), ChangeError> {
        Err(ChangeError::Unavailable("not started".into()))
    }

    /// The members of the cluster, in the order of their ids; empty before bootstrap or join.
    #[must_use]
    pub fn members(&self) -> Vec<Member> {
        Vec::new()
    }

    /// The number of partitions beside the catalog; 0 before bootstrap or join.
    #[must_use]
    pub fn partitions(&self) -> u16 {
        0
    }

    /// A group of this node.
    #[must_use]
    pub fn group(&self, _id: PartitionId) -> Option<Group> {
        None
    }

    /// All groups of this node, in order.
    #[must_use]
    pub fn groups(&self) -> Vec<Group> {
        Vec::new()
    }

    /// The connection to another node's peer port, for the services given to it at its start.
    #[must_use]
    pub fn peer_channel(&self, _node: NodeId) -> Option<Channel> {
        None
    }

    /// Where all groups stand.
    #[must_use]
    pub fn stats(&self) -> ReplicaStats {
        ReplicaStats::default()
    }

    /// Hands every group that this node leads over to an up-to-date voter, then stops.
    pub async fn drain(&self) {}

    /// Stops at once, without handing over.
    pub async fn stop(&self) {}
}
