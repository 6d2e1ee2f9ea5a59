//! The groups of this node.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, PoisonError, RwLock},
};

use openraft::async_runtime::WatchReceiver;
use tidemill_proto::peer::v1 as peer;
use tidemill_store::NodeStore;
use tidemill_types::{NodeId, PartitionId};

use crate::{
    Member, ReplicaConfig, StartError,
    codec::node_to_wire,
    group::{Group, StoppedGroup},
    limits::MEMBER_CALL_TIMEOUT,
    network::{Network, Peers},
    raft::Membership,
    shared::Shared,
    space::SpaceWatch,
    tasks::Tasks,
};

/// The groups of this node, opened when they are first needed. After [`Self::close`] it holds nothing,
/// so that whatever still refers to it (a connection that lingers) keeps no database open.
pub(crate) struct Directory {
    config: ReplicaConfig,
    peers: Arc<Peers>,
    space: Arc<SpaceWatch>,
    tasks: Tasks,
    groups: RwLock<BTreeMap<PartitionId, Group>>,
    /// Those that could not be opened.
    stopped: RwLock<BTreeMap<PartitionId, StoppedGroup>>,
    store: RwLock<Option<Arc<NodeStore>>>,
    /// Taken for as long as a group is being opened: a store must not be opened twice.
    opening: tokio::sync::Mutex<()>,
}

fn read<T>(lock: &RwLock<T>) -> std::sync::RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

impl Directory {
    pub fn new(
        config: ReplicaConfig,
        store: Arc<NodeStore>,
        peers: Arc<Peers>,
        space: Arc<SpaceWatch>,
        tasks: Tasks,
    ) -> Self {
        Self {
            config,
            peers,
            space,
            tasks,
            groups: RwLock::new(BTreeMap::new()),
            stopped: RwLock::new(BTreeMap::new()),
            store: RwLock::new(Some(store)),
            opening: tokio::sync::Mutex::new(()),
        }
    }

    pub fn node(&self) -> NodeId {
        self.config.node
    }

    pub fn config(&self) -> &ReplicaConfig {
        &self.config
    }

    pub fn peers(&self) -> &Arc<Peers> {
        &self.peers
    }

    pub fn space(&self) -> &Arc<SpaceWatch> {
        &self.space
    }

    pub fn tasks(&self) -> &Tasks {
        &self.tasks
    }

    /// None once closed.
    pub fn store(&self) -> Option<Arc<NodeStore>> {
        read(&self.store).clone()
    }

    /// The node's data directory; none once closed.
    pub fn dir(&self) -> Option<Arc<Path>> {
        self.store().map(|store| Arc::from(store.dir()))
    }

    pub fn get(&self, id: PartitionId) -> Option<Group> {
        read(&self.groups).get(&id).cloned()
    }

    pub fn all(&self) -> Vec<Group> {
        read(&self.groups).values().cloned().collect()
    }

    /// The groups that could not be opened here.
    pub fn stopped(&self) -> Vec<StoppedGroup> {
        read(&self.stopped).values().cloned().collect()
    }

    /// Opens a group, or takes note that it is damaged: that is no reason to stop the others. But without
    /// the catalog this node does not know its cluster.
    pub async fn open_or_stop(&self, id: PartitionId) -> Result<(), StartError> {
        match self.open(id).await {
            Err(StartError::Damaged { .. }) if !id.is_catalog() => Ok(()),
            opened => opened.map(drop),
        }
    }

    /// The group, opened when it is not yet.
    pub async fn open(&self, id: PartitionId) -> Result<Group, StartError> {
        if let Some(group) = self.get(id) {
            return Ok(group);
        }
        let _alone = self.opening.lock().await;
        if let Some(group) = self.get(id) {
            return Ok(group);
        }
        if let Some(stopped) = read(&self.stopped).get(&id) {
            return Err(stopped.error());
        }
        let Some(store) = self.store() else {
            return Err(StartError::Store {
                group: id,
                reason: "the replica is shutting down".to_owned(),
            });
        };
        let shared = Arc::new(Shared::new(self.config.snapshot.bytes));
        let network = Network::new(id, Arc::clone(&self.peers), shared, Arc::from(store.dir()));
        let group = Group::open(
            id,
            &self.config,
            &store,
            network,
            Arc::clone(&self.space),
            &self.tasks,
        )
        .await
        .inspect_err(|error| {
            if let StartError::Damaged { group, reason } = error {
                tracing::error!(partition = %group, reason, "group is damaged and stopped on this node");
                let stopped = StoppedGroup::new(*group, reason.clone());
                let mut all = self.stopped.write().unwrap_or_else(PoisonError::into_inner);
                all.insert(*group, stopped);
            }
        })?;
        self.groups
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(id, group.clone());
        Ok(group)
    }

    /// Stops all groups and lets everything go.
    pub async fn close(&self) {
        // Nothing is opened any more from here on.
        {
            let _alone = self.opening.lock().await;
            let store = self.store.write();
            store.unwrap_or_else(PoisonError::into_inner).take();
        }
        let groups =
            std::mem::take(&mut *self.groups.write().unwrap_or_else(PoisonError::into_inner));
        for group in groups.values() {
            if let Err(error) = group.raft().shutdown().await {
                tracing::warn!(partition = %group.id(), %error, "group did not stop cleanly");
            }
        }
        self.peers.clear();
    }

    /// The catalog's members, as it has them here.
    fn membership(&self) -> Option<Membership> {
        let catalog = self.get(PartitionId::CATALOG)?;
        let metrics = catalog.raft().metrics();
        let membership = metrics
            .borrow_watched()
            .membership_config
            .membership()
            .clone();
        let known = membership.nodes().next().is_some();
        known.then_some(membership)
    }

    /// Waits until the catalog has members.
    pub async fn known(&self) -> Result<(), StartError> {
        let catalog = self.open(PartitionId::CATALOG).await?;
        let wait = catalog.raft().wait(Some(MEMBER_CALL_TIMEOUT));
        let known = wait.metrics(
            |metrics| metrics.membership_config.nodes().next().is_some(),
            "the catalog has members",
        );
        known.await.map(drop).map_err(|error| StartError::Store {
            group: PartitionId::CATALOG,
            reason: error.to_string(),
        })
    }

    pub fn members(&self) -> Vec<Member> {
        let Some(membership) = self.membership() else {
            return Vec::new();
        };
        let voters: Vec<_> = membership.voter_ids().collect();
        membership
            .nodes()
            .map(|(id, node)| Member {
                id: NodeId(*id),
                peer: node.peer.clone(),
                grpc: node.grpc.clone(),
                http: node.http.clone(),
                voter: voters.contains(id),
            })
            .collect()
    }

    /// Partitions beside the catalog; none before this node is part of a cluster.
    pub fn partitions(&self) -> Option<u16> {
        let membership = self.membership()?;
        membership.nodes().map(|(_, node)| node.partitions).max()
    }

    pub fn status(&self) -> peer::StatusResponse {
        let membership = self.membership();
        peer::StatusResponse {
            node: self.config.node.0,
            partitions: self.partitions().unwrap_or(0).into(),
            nodes: membership.as_ref().map_or(Vec::new(), |membership| {
                membership
                    .nodes()
                    .map(|(id, node)| node_to_wire(*id, node))
                    .collect()
            }),
            voters: membership.map_or(Vec::new(), |membership| membership.voter_ids().collect()),
            leaders: self
                .all()
                .iter()
                .map(|group| peer::GroupLeader {
                    group: group.id().0.into(),
                    leader: group.leadership().borrow().leader.map_or(0, |node| node.0),
                })
                .collect(),
            disk_low: self.space.is_low(),
            stopped: self
                .all()
                .iter()
                .filter(|group| group.fault().is_some())
                .map(Group::id)
                .chain(self.stopped().iter().map(StoppedGroup::id))
                .map(|id| id.0.into())
                .collect(),
        }
    }
}
