//! The network between peers: one connection to each, shared by all groups and by the server's own
//! services.
//!
//! Each group has its own append stream in that connection, since HTTP/2 multiplexes already and a
//! stream of our own for all groups would let a slow group hold up the others. Heartbeats of all groups
//! to one peer share messages.

mod append;
mod client;
pub mod fuzz;
mod heartbeat;
mod link;
mod serve;
mod session;
mod snapshot;
mod wire;

use std::{path::Path, sync::Arc};

use openraft::RaftNetworkFactory;
use tidemill_types::PartitionId;

use self::client::{Client, Use};
pub use self::link::{PeerChannel, PeerIdentity};
pub(crate) use self::{
    link::{Peers, member_client},
    serve::PeerServer,
};
use crate::{
    raft::{Peer, Types},
    shared::Shared,
};

/// Makes one group's clients.
#[derive(Clone)]
pub(crate) struct Network {
    group: PartitionId,
    peers: Arc<Peers>,
    shared: Arc<Shared>,
    dir: Arc<Path>,
}

impl Network {
    /// `dir` is where snapshots' files are made.
    pub fn new(group: PartitionId, peers: Arc<Peers>, shared: Arc<Shared>, dir: Arc<Path>) -> Self {
        Self {
            group,
            peers,
            shared,
            dir,
        }
    }

    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    fn client(&self, target: u64, node: &Peer, purpose: Use) -> Client {
        Client {
            group: self.group,
            node: self.peers.node(),
            link: self.peers.link(target, &node.peer),
            purpose,
            shared: Arc::clone(&self.shared),
            dir: Arc::clone(&self.dir),
        }
    }
}

impl RaftNetworkFactory<Types> for Network {
    type Network = Client;

    async fn new_client(&mut self, target: u64, node: &Peer) -> Client {
        self.client(target, node, Use::Append)
    }

    async fn new_heartbeat_client(&mut self, target: u64, node: &Peer) -> Client {
        self.client(target, node, Use::Heartbeat)
    }
}
