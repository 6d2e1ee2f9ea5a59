//! All groups of one node.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use openraft::errors::{InitializeError, RaftError};
use tidemill_proto::peer::v1::{
    change_member_request::Change, peer_service_server::PeerServiceServer,
};
use tidemill_store::{NodeStore, Space, StoreStats};
use tidemill_types::{NodeId, PartitionId};
use tokio::{net::TcpListener, task::AbortHandle, time::timeout};
use tonic::{
    service::{InterceptorLayer, Routes},
    transport::{Server, server::TcpIncoming},
};

use crate::{
    ChangeError, Group, Member, ReplicaConfig, ReplicaStats, StartError, StoppedGroup,
    codec::node_to_wire,
    directory::Directory,
    elsewhere, handover,
    limits::{
        KEEP_ALIVE, MEMBERS_MAX, PARTITIONS_MAX, PEER_MESSAGE_BYTES_MAX, PEER_STREAMS_MAX,
        STOP_TIMEOUT,
    },
    members::Changer,
    network::{PeerChannel, PeerIdentity, PeerServer, Peers},
    raft::Peer,
    snapshot::SnapshotDir,
    space::SpaceWatch,
    tasks::Tasks,
};

/// All groups of one node, its peer port and its connections to the other nodes.
///
/// After [`Self::stop`] or [`Self::drain`] the data directory is free as soon as all handles of groups
/// and of their states are dropped.
pub struct Replica {
    directory: Arc<Directory>,
    address: SocketAddr,
    tasks: Tasks,
    server: Mutex<Option<AbortHandle>>,
}

impl Replica {
    /// Opens the groups that are stored (a new node has none but an empty catalog), and serves the peer
    /// port; `services` are served on it too, to callers of the same cluster only.
    ///
    /// # Errors
    /// [`StartError`]
    pub async fn start(
        config: ReplicaConfig,
        store: NodeStore,
        services: Routes,
    ) -> Result<Arc<Self>, StartError> {
        config.check()?;
        let listen_error = |source| StartError::Listen {
            address: config.peer_listen,
            source,
        };
        let listener = TcpListener::bind(config.peer_listen)
            .await
            .map_err(listen_error)?;
        let address = listener.local_addr().map_err(listen_error)?;
        SnapshotDir::clear(store.dir()).map_err(|error| StartError::Store {
            group: PartitionId::CATALOG,
            reason: format!("snapshot files: {error}"),
        })?;
        let tasks = Tasks::default();
        let space = Arc::new(SpaceWatch::default());
        let store = Arc::new(store);
        let stored = store.groups();
        let identity = PeerIdentity::new(&config.cluster, config.node)
            .expect("checked when the replica started");
        let peers = Arc::new(Peers::new(
            config.node,
            identity.clone(),
            config.heartbeat,
            tasks.clone(),
        ));
        tasks.spawn(Arc::clone(&space).run(Arc::clone(&store)));
        let directory = Arc::new(Directory::new(config, store, peers, space, tasks.clone()));
        tasks.spawn(handover::while_unfit(Arc::clone(&directory)));
        tasks.spawn(elsewhere::follow(Arc::clone(&directory)));
        let replica = Self {
            directory: Arc::clone(&directory),
            address,
            tasks,
            server: Mutex::new(None),
        };
        // The port is served first: the groups' peers may well be waiting for them.
        replica.serve(listener, services, identity);
        let opened = async {
            directory.open(PartitionId::CATALOG).await?;
            for group in stored {
                directory.open_or_stop(group).await?;
            }
            replica
                .open_partitions(directory.partitions().unwrap_or(0))
                .await
        }
        .await;
        if let Err(error) = opened {
            replica.stop().await;
            return Err(error);
        }
        Ok(Arc::new(replica))
    }

    fn serve(&self, listener: TcpListener, services: Routes, identity: PeerIdentity) {
        let own = PeerServiceServer::new(PeerServer::new(Arc::clone(&self.directory)))
            .max_decoding_message_size(PEER_MESSAGE_BYTES_MAX)
            .max_encoding_message_size(PEER_MESSAGE_BYTES_MAX);
        // With Nagle's algorithm answers wait for delayed acknowledgements: 40 ms.
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        let serve = Server::builder()
            .layer(InterceptorLayer::new(identity.guard()))
            .max_concurrent_streams(PEER_STREAMS_MAX)
            .http2_keepalive_interval(Some(KEEP_ALIVE))
            .http2_keepalive_timeout(Some(KEEP_ALIVE))
            .add_routes(services.add_service(own))
            .serve_with_incoming_shutdown(incoming, self.tasks.stopped());
        let task = self.tasks.spawn_stopping(async move {
            if let Err(error) = serve.await {
                tracing::error!(%error, "peer port ended");
            }
        });
        *self.server.lock().unwrap_or_else(PoisonError::into_inner) = Some(task);
    }

    async fn open_partitions(&self, partitions: u16) -> Result<(), StartError> {
        for id in 1..=partitions {
            self.directory.open_or_stop(PartitionId(id)).await?;
        }
        Ok(())
    }

    /// Where the peer port listens.
    #[must_use]
    pub fn peer_address(&self) -> SocketAddr {
        self.address
    }

    /// This node.
    #[must_use]
    pub fn node(&self) -> NodeId {
        self.directory.node()
    }

    /// Makes the cluster: the catalog and groups 1 to `partitions`, all with the same members. Every
    /// one of them may call it, at any time, again and again, with the same list; it does nothing once
    /// the cluster is made. A node that has lost its data must not: it joins under a new id.
    ///
    /// # Errors
    /// [`ChangeError`]
    pub async fn bootstrap(&self, members: &[Member], partitions: u16) -> Result<(), ChangeError> {
        check_bootstrap(self.node(), members, partitions)?;
        let open = async {
            self.directory.open(PartitionId::CATALOG).await?;
            self.open_partitions(partitions).await
        };
        let unavailable = |error: StartError| ChangeError::Unavailable(error.to_string());
        if let Some(found) = self.directory.partitions() {
            if found != partitions {
                return Err(ChangeError::Conflict(format!(
                    "the cluster has {found} partitions, not {partitions}"
                )));
            }
            let ids = |members: &[Member]| members.iter().map(|m| m.id).collect::<BTreeSet<_>>();
            if ids(&self.directory.members()) != ids(members) {
                // The members have changed since: what is missing here comes from the leaders.
                return open.await.map_err(unavailable);
            }
        }
        open.await.map_err(unavailable)?;
        let nodes: BTreeMap<u64, Peer> = members
            .iter()
            .map(|member| (member.id.0, peer_of(member, partitions)))
            .collect();
        for group in self.directory.all() {
            match group.raft().initialize(nodes.clone()).await {
                Ok(()) => tracing::info!(partition = %group.id(), "group made"),
                Err(RaftError::APIError(InitializeError::NotAllowed(_))) => {}
                Err(error) => return Err(ChangeError::Unavailable(error.to_string())),
            }
        }
        // What openraft has done shows a moment later.
        self.directory
            .known()
            .await
            .map_err(|error| ChangeError::Unavailable(error.to_string()))
    }

    /// Adds this node to every group of the cluster that the node at `via` (its peer address) belongs
    /// to; returns when it has caught up in all of them (and votes, when `me.voter`). Can be repeated.
    ///
    /// # Errors
    /// [`ChangeError`]
    pub async fn join(&self, via: &str, me: &Member) -> Result<(), ChangeError> {
        if me.id != self.node() {
            return Err(ChangeError::Invalid(format!(
                "this is node {}, not {}",
                self.node(),
                me.id
            )));
        }
        me.check().map_err(ChangeError::Invalid)?;
        let mut changer = Changer::new(&self.directory);
        let status = changer.learn(via).await?;
        let partitions = u16::try_from(status.partitions)
            .ok()
            .filter(|partitions| *partitions <= PARTITIONS_MAX)
            .ok_or_else(|| ChangeError::Conflict("the cluster has too many partitions".into()))?;
        self.open_partitions(partitions)
            .await
            .map_err(|error| ChangeError::Unavailable(error.to_string()))?;
        self.add(&changer, me, partitions).await
    }

    /// Looks whether this node has been added to the cluster that the node at `via` (its peer address)
    /// belongs to, and opens its groups then. Changes nothing in the cluster: who may be a member is for
    /// its operator to say, and a node that was removed must not come back by itself.
    ///
    /// # Errors
    /// [`ChangeError`]: `Unavailable` as long as it was not added.
    pub async fn await_adding(&self, via: &str) -> Result<(), ChangeError> {
        let status = Changer::new(&self.directory).learn(via).await?;
        let me = self.node();
        if !status.voters.contains(&me.0) {
            return Err(ChangeError::Unavailable(format!(
                "node {me} has not been added: run `tidemill cluster add {me} --peer {} --grpc ADDRESS`",
                self.address
            )));
        }
        let partitions = u16::try_from(status.partitions)
            .map_err(|_| ChangeError::Conflict("the cluster has too many partitions".into()))?;
        self.open_partitions(partitions)
            .await
            .map_err(|error| ChangeError::Unavailable(error.to_string()))
    }

    /// Adds a node that runs, or makes a learner vote, in every group.
    ///
    /// # Errors
    /// [`ChangeError`]
    pub async fn add_member(&self, member: &Member) -> Result<(), ChangeError> {
        member.check().map_err(ChangeError::Invalid)?;
        let partitions = self.directory.partitions().ok_or_else(not_a_member)?;
        self.add(&Changer::new(&self.directory), member, partitions)
            .await
    }

    async fn add(
        &self,
        changer: &Changer<'_>,
        member: &Member,
        partitions: u16,
    ) -> Result<(), ChangeError> {
        let node = node_to_wire(member.id.0, &peer_of(member, partitions));
        for id in 0..=partitions {
            let id = PartitionId(id);
            let index = changer.change(id, &Change::Add(node.clone())).await?;
            if member.id == self.node()
                && let Some(group) = self.directory.get(id)
            {
                changer.applied(&group, index).await?;
            }
            if member.voter {
                // Refused, and tried again, until it has caught up.
                changer.change(id, &Change::Promote(member.id.0)).await?;
            }
        }
        Ok(())
    }

    /// Takes a node out of every group. Its leaderships end first.
    ///
    /// # Errors
    /// [`ChangeError`]
    pub async fn remove_member(&self, node: NodeId) -> Result<(), ChangeError> {
        let members = self.members();
        let partitions = self.directory.partitions().ok_or_else(not_a_member)?;
        if !members.iter().any(|m| m.voter && m.id != node) {
            return Err(ChangeError::Invalid(
                "the last voter cannot be removed".to_owned(),
            ));
        }
        let changer = Changer::new(&self.directory);
        for id in 0..=partitions {
            changer
                .change(PartitionId(id), &Change::Remove(node.0))
                .await?;
        }
        Ok(())
    }

    /// Hands a group over to another voter, whoever leads it now; returns when that one leads.
    ///
    /// # Errors
    /// [`ChangeError`]
    pub async fn transfer_leadership(
        &self,
        group: PartitionId,
        to: NodeId,
    ) -> Result<(), ChangeError> {
        let here = self
            .group(group)
            .ok_or_else(|| ChangeError::Invalid(format!("there is no group {group}")))?;
        if !self.members().iter().any(|m| m.voter && m.id == to) {
            return Err(ChangeError::Invalid(format!("node {to} is not a voter")));
        }
        let mut leadership = here.leadership();
        if leadership.borrow().leader == Some(to) {
            return Ok(());
        }
        Changer::new(&self.directory)
            .change(group, &Change::TransferTo(to.0))
            .await?;
        let wait = self.directory.config().election_max * 2;
        match timeout(wait, leadership.wait_for(|l| l.leader == Some(to))).await {
            Ok(Ok(_)) => Ok(()),
            _ => Err(ChangeError::Unknown(format!(
                "node {to} does not lead group {group} yet"
            ))),
        }
    }

    /// The members of the cluster, in the order of their ids; empty before bootstrap or join.
    #[must_use]
    pub fn members(&self) -> Vec<Member> {
        self.directory.members()
    }

    /// The number of partitions beside the catalog; 0 before bootstrap or join.
    #[must_use]
    pub fn partitions(&self) -> u16 {
        self.directory.partitions().unwrap_or(0)
    }

    /// A group of this node.
    #[must_use]
    pub fn group(&self, id: PartitionId) -> Option<Group> {
        self.directory.get(id)
    }

    /// All groups of this node, in order.
    #[must_use]
    pub fn groups(&self) -> Vec<Group> {
        self.directory.all()
    }

    /// The groups that could not be opened on this node, in order: what is stored of them is damaged.
    #[must_use]
    pub fn stopped_groups(&self) -> Vec<StoppedGroup> {
        self.directory.stopped()
    }

    /// One of the members.
    #[must_use]
    pub fn member(&self, node: NodeId) -> Option<Member> {
        self.members().into_iter().find(|member| member.id == node)
    }

    /// The connection to another member's peer port, for the services that were given to it at its
    /// start. Made when it is first used, and again when it breaks: give calls a deadline.
    #[must_use]
    pub fn peer_channel(&self, node: NodeId) -> Option<PeerChannel> {
        let member = self.member(node)?;
        let link = self.directory.peers().link(node.0, &member.peer);
        Some(link.channel.clone())
    }

    /// Where all groups stand.
    #[must_use]
    pub fn stats(&self) -> ReplicaStats {
        let stopped = self.stopped_groups();
        let mut groups: Vec<_> = self.groups().iter().map(Group::stats).collect();
        groups.extend(stopped.iter().map(StoppedGroup::stats));
        groups.sort_by_key(|group| group.id);
        ReplicaStats {
            groups,
            peers: self.directory.peers().stats(),
        }
    }

    /// What the store has done, fsyncs among it; none once stopped.
    #[must_use]
    pub fn store_stats(&self) -> Option<StoreStats> {
        Some(self.directory.store()?.stats())
    }

    /// Room on the disk: new work should be refused when it is low. None once stopped, or when the
    /// operating system does not say.
    #[must_use]
    pub fn space(&self) -> Option<Space> {
        self.directory.store()?.space().ok()
    }

    /// Hands every group that this node leads over to an up-to-date voter, then stops.
    pub async fn drain(&self) {
        let groups = self.groups();
        let all = groups
            .iter()
            .map(|group| handover::at_drain(&self.directory, group));
        futures::future::join_all(all).await;
        self.stop().await;
    }

    /// Stops at once, without handing over. Does nothing the second time.
    pub async fn stop(&self) {
        // openraft first: that ends the append streams, which would hold the port's connections open.
        self.directory.close().await;
        self.tasks.stop();
        if timeout(STOP_TIMEOUT, self.tasks.ended()).await.is_err() {
            tracing::debug!("calls to the peer port were still open");
            let server = self
                .server
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take();
            if let Some(server) = server {
                server.abort();
            }
            // What is left now waits only for the connections' own ends.
            if timeout(STOP_TIMEOUT, self.tasks.ended()).await.is_err() {
                tracing::warn!("tasks were left behind");
            }
        }
    }
}

impl Drop for Replica {
    /// What runs on by itself ends. openraft's tasks end with the last handle of their group.
    fn drop(&mut self) {
        self.tasks.stop();
    }
}

fn not_a_member() -> ChangeError {
    ChangeError::Unavailable("this node is not part of a cluster".to_owned())
}

fn peer_of(member: &Member, partitions: u16) -> Peer {
    Peer {
        peer: member.peer.clone(),
        grpc: member.grpc.clone(),
        http: member.http.clone(),
        partitions,
    }
}

fn check_bootstrap(node: NodeId, members: &[Member], partitions: u16) -> Result<(), ChangeError> {
    let invalid = |why: String| Err(ChangeError::Invalid(why));
    if partitions == 0 || partitions > PARTITIONS_MAX {
        return invalid(format!("partitions must be 1 to {PARTITIONS_MAX}"));
    }
    if members.is_empty() || members.len() > MEMBERS_MAX {
        return invalid(format!("members must be 1 to {MEMBERS_MAX}"));
    }
    let mut ids = BTreeSet::new();
    let mut addresses = BTreeSet::new();
    for member in members {
        member.check().map_err(ChangeError::Invalid)?;
        if !member.voter {
            return invalid(format!(
                "member {}: the first members all vote; a learner joins later",
                member.id
            ));
        }
        if !ids.insert(member.id) {
            return invalid(format!("member {} is named twice", member.id));
        }
        if !addresses.insert(&member.peer) {
            return invalid(format!("peer {} is named twice", member.peer));
        }
    }
    if !ids.contains(&node) {
        return invalid(format!("members must name this node, {node}"));
    }
    Ok(())
}
